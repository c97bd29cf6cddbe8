"""The official server SDK for Python, all of its methods that we offer, and what a client sees of them. Arguments:
ws://HOST:PORT/connection/websocket, the API's key."""
import asyncio
import sys
import time

import cent
from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

URL, KEY = sys.argv[1:3]


class Seen(ClientEventHandler, SubscriptionEventHandler):
    """What a client hears, in order: the kind and what is told."""

    def __init__(self):
        self.events = asyncio.Queue()

    async def next(self, kind):
        while True:
            seen, told = await self.events.get()
            if seen == kind:
                return told

    async def on_publication(self, ctx):
        await self.events.put(("publication", ctx))

    async def on_unsubscribed(self, ctx):
        await self.events.put(("unsubscribed", ctx))

    async def on_disconnected(self, ctx):
        await self.events.put(("disconnected", ctx))

    async def on_connected(self, ctx):
        await self.events.put(("connected", ctx))

    async def on_subscribed(self, ctx):
        await self.events.put(("subscribed", ctx))


async def refuses(awaitable, code):
    try:
        await awaitable
    except cent.CentApiResponseError as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"expected error {code}")


async def main():
    at = URL.replace("ws://", "http://").replace("/connection/websocket", "/api")
    api = cent.AsyncClient(at, KEY)
    stranger = cent.AsyncClient(at, "another key")
    try:
        await stranger.info(cent.InfoRequest())
    except cent.CentUnauthorizedError:
        pass
    else:
        raise AssertionError("another key was as good")

    seen, room = Seen(), Seen()
    client = Client(URL, events=seen, data={"user": "42"})
    await client.connect()
    await client.ready()
    client_id = (await seen.next("connected")).client
    subscription = client.new_subscription("room", events=room)
    await subscription.subscribe()
    await subscription.ready()

    first = await api.publish(cent.PublishRequest(channel="room", data={"text": "héllo"}, tags={"from": "cent"}))
    assert first.offset == 1 and first.epoch
    heard = (await room.next("publication")).pub
    assert heard.data == {"text": "héllo"} and heard.info is None and heard.tags == {"from": "cent"}
    again = [
        await api.publish(cent.PublishRequest(channel="room", data={"once": True}, idempotency_key="a")) for _ in "ab"
    ]
    assert [one.offset for one in again] == [2, 2]
    await refuses(api.publish(cent.PublishRequest(channel="room", data={}, idempotency_key="a")), 107)
    await refuses(api.publish(cent.PublishRequest(channel="nonesuch:a", data={})), 102)
    unkept = await api.publish(cent.PublishRequest(channel="room", data={"kept": False}, skip_history=True))
    assert unkept.offset in (None, 0), unkept
    said = [(await room.next("publication")).pub.data for _ in range(2)]
    assert said == [{"once": True}, {"kept": False}], said

    broadcast = await api.broadcast(cent.BroadcastRequest(channels=["room", "other", "nonesuch:a"], data=[1]))
    assert [reply.result and reply.result.offset for reply in broadcast.responses] == [3, 1, None]
    assert broadcast.responses[2].error.code == 102
    presence = await api.presence(cent.PresenceRequest(channel="room"))
    assert {key: info.user for key, info in presence.presence.items()} == {client_id: "42"}
    stats = await api.presence_stats(cent.PresenceStatsRequest(channel="room"))
    assert (stats.num_clients, stats.num_users) == (1, 1)
    history = await api.history(cent.HistoryRequest(channel="room", limit=10))
    assert [one.data for one in history.publications] == [{"text": "héllo"}, {"once": True}, [1]]
    assert history.publications[0].tags == {"from": "cent"}
    since = cent.StreamPosition(offset=3, epoch=history.epoch)
    back = await api.history(cent.HistoryRequest(channel="room", limit=10, since=since, reverse=True))
    assert [one.offset for one in back.publications] == [2, 1]
    channels = await api.channels(cent.ChannelsRequest(pattern="ro*"))
    assert {name: one.num_clients for name, one in channels.channels.items()} == {"room": 1}
    info = await api.info(cent.InfoRequest())
    assert len(info.nodes) == 1 and info.nodes[0].num_clients == 1 and info.nodes[0].num_channels >= 1, info
    await api.history_remove(cent.HistoryRemoveRequest(channel="room"))
    history = await api.history(cent.HistoryRequest(channel="room", limit=10))
    assert (history.publications, history.offset) == ([], 3)

    for parallel in (False, True):
        batch = await api.batch(
            cent.BatchRequest(
                requests=[
                    cent.PublishRequest(channel="other", data={"batch": parallel}),
                    cent.PresenceStatsRequest(channel="room"),
                ],
                parallel=parallel,
            )
        )
        assert batch.replies[0].offset == 2 + parallel and batch.replies[1].num_clients == 1, batch

    # What is done to a client, as it sees it.
    await api.subscribe(cent.SubscribeRequest(channel="given", user="42", data={"welcome": True}, info={"role": "guest"}))
    told = await seen.next("subscribed")
    assert (told.channel, told.data) == ("given", {"welcome": True}), told
    given = await api.presence(cent.PresenceRequest(channel="given"))
    assert [one.chan_info for one in given.presence.values()] == [{"role": "guest"}]
    await api.publish(cent.PublishRequest(channel="given", data="hello"))
    told = await seen.next("publication")
    assert (told.channel, told.pub.data) == ("given", "hello")
    await api.unsubscribe(cent.UnsubscribeRequest(channel="given", user="42"))
    told = await seen.next("unsubscribed")
    assert told.channel == "given", told
    await api.unsubscribe(cent.UnsubscribeRequest(channel="room", user="42", client=client_id))
    told = await room.next("unsubscribed")
    assert told.code == 2000, told
    await api.refresh(cent.RefreshRequest(user="42", expire_at=int(time.time()) + 600))
    assert client.state.value == "connected"
    # Another user's order, and one that spares this client, change nothing; then it is sent away for good.
    await api.disconnect(cent.DisconnectRequest(user="43"))
    await api.disconnect(cent.DisconnectRequest(user="42", whitelist=[client_id]))
    assert client.state.value == "connected"
    await api.disconnect(cent.DisconnectRequest(user="42", disconnect=cent.Disconnect(code=4501, reason="bye")))
    told = await seen.next("disconnected")
    assert (told.code, told.reason) == (4501, "bye"), told
    await client.connect()
    await client.ready()
    # Expired: it may come back at once, and does.
    await seen.next("connected")
    await api.refresh(cent.RefreshRequest(user="42", expired=True))
    await seen.next("connected")
    await client.disconnect()
    await api.close()
    await stranger.close()
    print("cent: ok")


asyncio.run(asyncio.wait_for(main(), 30))
