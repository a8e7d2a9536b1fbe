"""The plainest HTTP loop of gevent and httptools, to hold this server's own against. A program.

Answers two bytes to whatever it is asked, on 127.0.0.1, until TERM. It has no environ, no application, no limits, no
deadlines, no access log and no way to drain: what nobody would put into production.
"""

import argparse
import socket
from typing import Any

import httptools
from gevent.server import StreamServer

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_RECEIVE = 65_536


class _Asked:
    """Callbacks of the parser.

    :ivar requests: whole ones that wait for their answers
    """

    def __init__(self) -> None:
        self.requests = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.requests += 1
        self.headers, self.target = [], b""


def serve(sock: Any, _address: Any) -> None:
    """One connection."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked = _Asked()
    parser = httptools.HttpRequestParser(asked)
    while data := sock.recv(_RECEIVE):
        parser.feed_data(data)
        if asked.requests:
            sock.sendall(_ANSWER * asked.requests)
            asked.requests = 0


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    StreamServer(("127.0.0.1", parser.parse_args().port), serve, backlog=1024).serve_forever()


if __name__ == "__main__":
    main()
