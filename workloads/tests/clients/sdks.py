"""Everything that the Python client can do, in one of its forms. Arguments: ws://HOST:PORT/connection/websocket, "json" or
"protobuf"."""
import asyncio
import json
import sys

from centrifuge import Client, ReplyError, SubscriptionEventHandler


class Heard(SubscriptionEventHandler):
    def __init__(self):
        self.publications, self.joins, self.leaves = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.subscribed, self.unsubscribed = asyncio.Queue(), asyncio.Queue()

    async def on_publication(self, ctx):
        await self.publications.put(ctx.pub)

    async def on_join(self, ctx):
        await self.joins.put(ctx.info.user)

    async def on_leave(self, ctx):
        await self.leaves.put(ctx.info.user)

    async def on_subscribed(self, ctx):
        await self.subscribed.put(ctx)

    async def on_unsubscribed(self, ctx):
        await self.unsubscribed.put(ctx)


async def refuses(awaitable, code):
    try:
        await awaitable
    except ReplyError as error:
        assert error.code == code, error.code
    else:
        raise AssertionError(f"expected error {code}")


async def main(url, form):
    channel, binary = f"py-room-{form}", form == "protobuf"
    encode = (lambda value: json.dumps(value).encode()) if binary else (lambda value: value)
    decode = json.loads if binary else (lambda value: value)
    connecting = [Client(url, data=encode({"user": user}), use_protobuf=binary) for user in ("ann", "bob")]
    for client in connecting:
        await client.connect()
        await client.ready()
    ann, bob = connecting
    heard, his_heard = Heard(), Heard()
    hers = ann.new_subscription(channel, events=heard, join_leave=True, recoverable=True)
    await hers.subscribe()
    await hers.ready()
    his = bob.new_subscription(channel, events=his_heard)
    await his.subscribe()
    await his.ready()
    users = set()
    while users != {"ann", "bob"}:
        users.add(await heard.joins.get())
    said = {"text": "hällo\n水", "list": [True, None, -1.5]}
    await his.publish(encode(said))
    for queue in (heard, his_heard):
        publication = await queue.publications.get()
        assert decode(publication.data) == said, publication.data
        assert publication.offset == 1 and publication.info.user == "bob"
    many = 100
    await asyncio.gather(*(bob.publish(channel, encode({"number": number})) for number in range(many)))
    got = [decode((await heard.publications.get()).data)["number"] for _ in range(many)]
    assert got == list(range(many)), got
    presence = await hers.presence()
    assert sorted(info.user for info in presence.clients.values()) == ["ann", "bob"]
    stats = await his.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2)
    history = await hers.history(limit=2, reverse=True)
    assert [publication.offset for publication in history.publications] == [many + 1, many]
    assert history.offset == many + 1

    # Away while something is published: recovered when back, and only that.
    await heard.subscribed.get()
    await ann.disconnect()
    await his.publish(encode({"text": "missed"}))
    await ann.connect()
    again = await heard.subscribed.get()
    assert again.was_recovering and again.recovered
    publication = await heard.publications.get()
    assert decode(publication.data) == {"text": "missed"} and publication.offset == many + 2
    assert heard.publications.empty()
    await refuses(ann.rpc("nothing", encode({})), 108)
    secret = Heard()
    await ann.new_subscription("$secret", events=secret).subscribe()
    assert (await secret.unsubscribed.get()).code == 103
    await his.unsubscribe()
    while await heard.leaves.get() != "bob":
        pass
    await ann.disconnect()
    await bob.disconnect()
    print("ok", flush=True)
    print(f"python {form}: ok")


asyncio.run(asyncio.wait_for(main(sys.argv[1], sys.argv[2]), 30))
