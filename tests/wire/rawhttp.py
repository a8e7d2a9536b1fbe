"""A client that sends exactly the bytes it is given, and reads answers strictly."""

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, field

TIMEOUT = 10.0


@dataclass
class Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} sent {len(found)} times"
        return found[0] if found else None


class Client:
    """One connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *args: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_quietly(self, data: bytes) -> None:
        """Send what the server may refuse to take."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"connection closed after {self.buffer!r}")
        self.buffer += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read(self, head_only: bool = False) -> Answer:
        """One answer; ``head_only`` after a HEAD request."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        answer = Answer(int(status), reason)
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            answer.headers.append((name, value))
        if head_only or answer.status in (100, 204, 304):
            return answer
        length = answer.header("content-length")
        if length is not None:
            assert answer.header("transfer-encoding") is None
            answer.body = self._exactly(int(length))
        elif answer.header("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                answer.body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
        else:
            assert answer.header("connection") == "close", "no way to find the end of this body"
            answer.body = self.rest()
        return answer

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        data, self.buffer = self.buffer, b""
        while part := self.sock.recv(65536):
            data += part
        return data

    def closed(self) -> bool:
        """Wait for the server to close; whether it did without sending more."""
        return not self.rest()


def ask(port: int, data: bytes, head_only: bool = False) -> Answer:
    with Client(port) as client:
        client.send_quietly(data)
        return client.read(head_only)


def wait_for(condition, seconds: float = TIMEOUT) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)
