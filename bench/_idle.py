"""What an idle connection costs a worker in memory. ``python bench/_idle.py``

Starts the server of _ceiling.py with one worker, opens connections, has each make one request of an OpenStack client's
headers and then keeps it open. Prints the growth of the worker's memory, resident (RSS) and with shared pages divided
by their users (PSS), per connection.
"""

from __future__ import annotations

import argparse
import re
import resource
import socket
from pathlib import Path

from _ceiling import HEADERS, Server

WARM_UP = 50


def memory_of(pid: int) -> tuple[int, int]:
    """RSS and PSS of a process, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"^{name}:\s+(\d+) kB", text, re.M) for name in ("Rss", "Pss"))
    if rss is None or pss is None:
        raise RuntimeError("this kernel does not tell the memory of a process")
    return int(rss[1]) * 1024, int(pss[1]) * 1024


def open_one(port: int, number: int) -> socket.socket:
    """A connection that has got its answer."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    lines = [f"{name}: {value}" for name, value in HEADERS["realistic"].items()]
    head = "\r\n".join([f"GET /v1/p/stacks/{number} HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines])
    sock.sendall(head.encode() + b"\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok"):
        answer += sock.recv(4096)
    return sock


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", default="gevent", help="as of heatperf serve")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--port", type=int, default=18093)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(options.loop, True, options.port)
    held = []
    try:
        for number in range(WARM_UP):
            open_one(options.port, number).close()
        before = memory_of(server.worker)
        held = [open_one(options.port, number) for number in range(options.connections)]
        after = memory_of(server.worker)
    finally:
        for sock in held:
            sock.close()
        server.close()
    rss, pss = ((now - then) / options.connections / 1024 for then, now in zip(before, after, strict=True))
    print(f"{options.loop}: {options.connections} idle connections, {rss:.1f} KiB RSS and {pss:.1f} KiB PSS each")


if __name__ == "__main__":
    main()
