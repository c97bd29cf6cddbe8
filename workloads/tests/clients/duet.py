"""A voice of a duet, as duet.mjs. Arguments: ws://HOST:PORT/connection/websocket, "json" or "protobuf", its name, the
other's."""
import asyncio
import json
import sys

from centrifuge import Client, SubscriptionEventHandler

NOTES = 50


async def main(url, form, name, other):
    binary = form == "protobuf"
    encode = (lambda value: json.dumps(value).encode()) if binary else (lambda value: value)
    decode = json.loads if binary else (lambda value: value)
    heard, done = {name: [], other: []}, asyncio.Event()

    class Heard(SubscriptionEventHandler):
        async def on_publication(self, ctx):
            data = decode(ctx.pub.data)
            assert data["text"] == "note ♪", data
            heard[ctx.pub.info.user].append(data["number"])
            if all(len(numbers) == NOTES for numbers in heard.values()):
                done.set()

    client = Client(url, data=encode({"user": name}), use_protobuf=binary)
    await client.connect()
    await client.ready()
    subscription = client.new_subscription("duet", events=Heard())
    await subscription.subscribe()
    await subscription.ready()
    while (await subscription.presence_stats()).num_users < 2:
        await asyncio.sleep(0.02)
    for number in range(NOTES):
        await client.publish("duet", encode({"number": number, "text": "note ♪"}))
    await done.wait()
    assert heard == {name: list(range(NOTES)), other: list(range(NOTES))}, heard
    await client.disconnect()
    print("ok", flush=True)


asyncio.run(asyncio.wait_for(main(*sys.argv[1:5]), 30))
