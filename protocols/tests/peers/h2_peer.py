"""A peer on the `h2` package, which holds whoever talks to it to the rules.

h2_peer.py server          listens, prints its port, echoes the bodies of one connection's requests
h2_peer.py client PORT     sends bodies to an echo and prints "ok" when all came back

Both change their settings on the way: windows shrink and grow, the other end's compression table comes and goes.
"""

import random
import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

random.seed(9113)
SETTINGS = [
    {SettingCodes.INITIAL_WINDOW_SIZE: 1000, SettingCodes.HEADER_TABLE_SIZE: 0},
    {SettingCodes.INITIAL_WINDOW_SIZE: 200_000, SettingCodes.HEADER_TABLE_SIZE: 200},
    {SettingCodes.INITIAL_WINDOW_SIZE: 10, SettingCodes.HEADER_TABLE_SIZE: 65_536, SettingCodes.MAX_FRAME_SIZE: 20_000},
    {SettingCodes.INITIAL_WINDOW_SIZE: 65_535, SettingCodes.HEADER_TABLE_SIZE: 4096},
]


def body_of(number, length):
    return bytes((at * 7 + number * 13) % 256 for at in range(length))


class Peer:
    def __init__(self, sock, client_side):
        self.sock = sock
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.conn = H2Connection(config=H2Configuration(client_side=client_side, header_encoding="utf-8"))
        self.conn.initiate_connection()
        self.unsent = {}
        self.changes = list(SETTINGS)
        self.flush()

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def receive(self):
        data = self.sock.recv(random.choice([1, 7, 1000, 65_536]))
        if not data:
            return None
        events = self.conn.receive_data(data)
        for event in events:
            if isinstance(event, DataReceived):
                self.grant(event)
        return events

    def grant(self, event):
        """Opens the windows by what was read. The package's own way waits for half of the largest window that there ever
        was, which a window that has shrunk since never reaches."""
        if event.flow_controlled_length:
            self.conn.increment_flow_control_window(event.flow_controlled_length)
            try:
                self.conn.increment_flow_control_window(event.flow_controlled_length, event.stream_id)
            except StreamClosedError:
                pass  # A later event of the same read ended it: there is no window any more.

    def change_settings(self):
        if self.changes:
            self.conn.update_settings(self.changes.pop(0))

    def pump(self):
        """Sends on what the windows let through, in pieces of any size, some with padding."""
        for stream, body in list(self.unsent.items()):
            while body:
                padding = random.choice([None, None, 0, 17, 255])
                room = self.conn.local_flow_control_window(stream) - (0 if padding is None else padding + 1)
                size = min(room, len(body), random.choice([1, 300, 16_000]))
                if size <= 0:
                    if padding is None:
                        break
                    continue
                size = min(size, self.conn.max_outbound_frame_size - 256)
                self.conn.send_data(stream, body[:size], pad_length=padding)
                body = body[size:]
            self.unsent[stream] = body
            if not body:
                del self.unsent[stream]
                self.finish(stream)
        self.flush()


class Server(Peer):
    def run(self):
        self.requests, self.bodies, answered = {}, {}, 0
        while (events := self.receive()) is not None:
            for event in events:
                if isinstance(event, RequestReceived):
                    self.requests[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                elif isinstance(event, DataReceived):
                    self.bodies[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    answered += 1
                    if answered % 5 == 0:
                        self.change_settings()
                        self.conn.ping(b"annulus!")
                    self.answer(event.stream_id)
                elif isinstance(event, ConnectionTerminated):
                    assert event.error_code == ErrorCodes.NO_ERROR, event
            self.pump()

    def answer(self, stream):
        path = self.requests[stream][":path"]
        if path == "/refuse":
            return self.conn.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        self.conn.send_headers(stream, [(":status", "103"), ("link", "</style.css>")])
        self.conn.send_headers(stream, [(":status", "200"), ("x-path", path), ("x-path", path), ("server", "h2")])
        self.unsent[stream] = self.bodies.pop(stream)

    def finish(self, stream):
        self.conn.send_headers(stream, [("x-end", "yes")], end_stream=True)


class Client(Peer):
    def run(self):
        lengths = [0, 1, 63, 1000, 16_384, 65_535, 65_536, 300_000] * 4
        self.sent, got, waiting, trailers, pongs = {}, {}, list(enumerate(lengths)), 0, 0
        self.conn.ping(b"annulus!")
        complete = 0
        while complete < len(lengths):
            while waiting and len(self.sent) - complete < 10:
                number, length = waiting.pop(0)
                stream = self.conn.get_next_available_stream_id()
                fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", f"/{number}")]
                fields += [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-number", str(number % 3))]
                priority = {"priority_weight": 16, "priority_depends_on": 0} if number % 2 else {}
                self.conn.send_headers(stream, fields, **priority)
                self.sent[stream] = self.unsent[stream] = body_of(number, length)
                got[stream] = b""
            self.pump()
            events = self.receive()
            assert events is not None, "the server has closed the connection"
            for event in events:
                if isinstance(event, ResponseReceived):
                    fields = dict(event.headers)
                    assert fields[":status"] == "200" and fields["x-cookie"] == "a=1; b=2", fields
                elif isinstance(event, DataReceived):
                    got[event.stream_id] += event.data
                elif isinstance(event, TrailersReceived):
                    trailers += dict(event.headers) == {"x-end": "yes"}
                elif isinstance(event, PingAckReceived):
                    pongs += 1
                elif isinstance(event, StreamEnded):
                    complete += 1
                    assert got[event.stream_id] == self.sent[event.stream_id], event.stream_id
                    if complete % 5 == 0:
                        self.change_settings()
                elif isinstance(event, (StreamReset, ConnectionTerminated)):
                    raise SystemExit(f"unexpected: {event}")
        assert (trailers, pongs) == (complete, 1), (trailers, pongs)
        self.conn.close_connection()
        self.flush()
        print("ok", flush=True)

    def finish(self, stream):
        if stream % 4 == 1:
            self.conn.send_headers(stream, [("x-checksum", "0")], end_stream=True)
        else:
            self.conn.end_stream(stream)


if sys.argv[1] == "server":
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    print(listener.getsockname()[1], flush=True)
    Server(listener.accept()[0], client_side=False).run()
else:
    Client(socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=20), client_side=True).run()
