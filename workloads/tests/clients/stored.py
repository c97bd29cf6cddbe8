"""What the embedded database has of a channel: a line with every row in order. Arguments: the file, the channel."""
import json
import sqlite3
import sys

file, channel = sys.argv[1:3]
database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
query = 'SELECT epoch, "offset", user, data FROM annulus_messages WHERE channel = ? ORDER BY epoch, "offset"'
for epoch, offset, user, data in database.execute(query, (channel,)):
    print(json.dumps({"epoch": epoch, "offset": offset, "user": user, "data": json.loads(data)}))
