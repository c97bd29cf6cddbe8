"""Field compression by the `hpack` package, for a test that compares: one JSON object a line in, one a line out.

{"decode": hex, "table": n}                     -> {"fields": [[name, value], ...]}   names and values as hex
{"encode": fields, "huffman": bool, "table": n} -> {"block": hex}

`table` is the decoder's limit, or the encoder's size; both are set before the block.
"""

import json
import sys

from hpack import Decoder, Encoder
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple

encoder, decoder = Encoder(), Decoder(max_header_list_size=1 << 24)
for line in sys.stdin:
    asked = json.loads(line)
    if "decode" in asked:
        decoder.max_allowed_table_size = asked["table"]
        fields = decoder.decode(bytes.fromhex(asked["decode"]), raw=True)
        answer = {"fields": [[bytes(name).hex(), bytes(value).hex()] for name, value in fields]}
    else:
        if encoder.header_table_size != asked["table"]:
            encoder.header_table_size = asked["table"]
        kinds = {True: NeverIndexedHeaderTuple, False: HeaderTuple}
        fields = [kinds[never](bytes.fromhex(name), bytes.fromhex(value)) for name, value, never in asked["encode"]]
        answer = {"block": encoder.encode(fields, huffman=asked["huffman"]).hex()}
    print(json.dumps(answer), flush=True)
