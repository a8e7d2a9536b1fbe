"""The network between the servers and a broker, which can be cut without either end being told.

Comes in: the broker's port. Goes out: ``port``, to which the servers connect. While a cut lasts, nothing is forwarded
and nothing is closed: bytes wait, as the kernel's of an unreachable peer do, and go on when it is healed. New
connections are accepted (a network that swallows packets would leave them unanswered; a login that gets no answer is
the same to a client). Threads of the test program.

A connection of the lean transport tells what it is for by what it declares first: an exchange, to publish; a queue, for
its replies.
"""

import contextlib
import socket
import threading

from heatperf.rpc.amqp import codec

PUBLISHER, REPLIES = "publisher", "replies"
TO_BROKER, FROM_BROKER = "to the broker", "from the broker"
_KINDS = {
    codec.EXCHANGE_DECLARE: PUBLISHER,
    codec.CONFIRM_SELECT: PUBLISHER,
    codec.QUEUE_DECLARE: REPLIES,
    codec.BASIC_CONSUME: REPLIES,
}


class Proxy:
    """See the module's text. ``with`` it."""

    def __init__(self, target):
        self._target = target
        self._changed = threading.Condition()
        self._cut = set()
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # shutdown also wakes the thread in accept()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for pair in self._pairs:
                pair.close()
            self._cut.clear()
            self._changed.notify_all()

    def cut(self, kinds=(PUBLISHER, REPLIES), directions=(TO_BROKER, FROM_BROKER)):
        """Forward nothing more of these kinds of connections in these directions."""
        with self._changed:
            self._cut |= {(kind, direction) for kind in kinds for direction in directions}
            if len(kinds) == 2:
                self._cut |= {("", direction) for direction in directions}

    def heal(self):
        """Forward everything again, what has waited first."""
        with self._changed:
            self._cut.clear()
            self._changed.notify_all()

    def count(self):
        """Open connections by kind."""
        with self._changed:
            kinds = [pair.kind for pair in self._pairs if not pair.closed]
        return {kind: kinds.count(kind) for kind in (PUBLISHER, REPLIES)}

    def pass_(self, pair, direction):
        """Wait until a connection may be forwarded."""
        with self._changed:
            self._changed.wait_for(lambda: pair.closed or (pair.kind, direction) not in self._cut)

    def _accept(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, broker)
            with self._changed:
                self._pairs = [known for known in self._pairs if not known.closed] + [pair]
            pair.start()


class _Pair:
    def __init__(self, proxy, client, broker):
        self._proxy = proxy
        self._ends = client, broker
        self._frames = codec.Frames(1 << 24)
        self._greeting = len(codec.PROTOCOL_HEADER)
        self.kind = ""
        self.closed = False
        for sock in self._ends:
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self):
        client, broker = self._ends
        for source, sink, direction in ((client, broker, TO_BROKER), (broker, client, FROM_BROKER)):
            threading.Thread(target=self._pump, args=(source, sink, direction), daemon=True).start()

    def close(self):
        self.closed = True
        for sock in self._ends:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _pump(self, source, sink, direction):
        try:
            while data := source.recv(65_536):
                if direction == TO_BROKER and not self.kind:
                    self._listen(data)
                self._proxy.pass_(self, direction)
                sink.sendall(data)
            self._proxy.pass_(self, direction)
        except OSError:
            pass
        # Both ends of AMQP hang up at once: a half that stays open has nothing more to say.
        self.close()
        source.close()

    def _listen(self, data):
        start, self._greeting = self._greeting, max(0, self._greeting - len(data))
        for frame, _channel, payload in self._frames.feed(data[start:]):
            if frame == codec.METHOD and not self.kind:
                self.kind = _KINDS.get(int.from_bytes(payload[:4]), "")
