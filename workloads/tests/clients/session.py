"""The official Python client against our server. Argument: ws://HOST:PORT/connection/websocket"""
import asyncio
import sys

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler


class Heard(SubscriptionEventHandler):
    def __init__(self):
        self.publications = asyncio.Queue()
        self.joins = asyncio.Queue()

    async def on_publication(self, ctx):
        await self.publications.put(ctx)

    async def on_join(self, ctx):
        await self.joins.put(ctx)


async def main(url):
    ann, bob = Client(url, events=ClientEventHandler(), data={"user": "ann"}), Client(url, data={"user": "bob"})
    await ann.connect()
    await bob.connect()
    await ann.ready()
    await bob.ready()
    heard = Heard()
    hers = ann.new_subscription("py:room", events=heard, join_leave=True, recoverable=True)
    await hers.subscribe()
    await hers.ready()
    his = bob.new_subscription("py:room")
    await his.subscribe()
    await his.ready()
    users = set()
    while users != {"ann", "bob"}:
        users.add((await heard.joins.get()).info.user)
    await his.publish({"text": "hällo 水"})
    publication = (await heard.publications.get()).pub
    assert publication.data == {"text": "hällo 水"}, publication.data
    assert publication.offset == 1 and publication.info.user == "bob"
    presence = await hers.presence()
    assert sorted(info.user for info in presence.clients.values()) == ["ann", "bob"]
    stats = await hers.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2)
    history = await hers.history(limit=10)
    assert [publication.offset for publication in history.publications] == [1]
    await his.unsubscribe()
    await ann.disconnect()
    await bob.disconnect()
    print("python: ok")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 20))
