"""A Keystone of a few lines in a thread: versions, logins and tokens; it can be told to be slow.

Imported by the tests of the stations that ask Keystone. The real one is in the end-to-end tests.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EXPIRES = "2199-01-01T00:00:00.000000Z"
#: Tokens that expire before are expired, whatever the clock says.
NOW = "2025"
PASSWORD = "s3cret-of-alice"
SERVICE_PASSWORD = "s3cret-of-heat"


def token_body(
    user: str, roles: tuple[str, ...], project: str, expires: str = EXPIRES, **more: Any
) -> dict[str, Any]:
    """What Keystone says of a project-scoped token.

    :param more: further members, in place of the usual ones
    """
    domain = {"id": "default", "name": "Default"}
    return {
        "token": {
            "methods": ["password"],
            "user": {"id": f"u-{user}", "name": user, "domain": domain, "password_expires_at": None},
            "audit_ids": ["audit0"],
            "expires_at": expires,
            "issued_at": "2024-01-01T00:00:00.000000Z",
            "roles": [{"id": f"r-{role}", "name": role} for role in roles],
            "project": {"id": project, "name": f"name of {project}", "domain": domain},
            "is_domain": False,
            "catalog": [],
            **more,
        }
    }


class FakeKeystone:
    """``tokens`` maps token ids to bodies; ``gate`` holds every answer about tokens while it is clear.

    ``asked`` are the questions, ``subjects`` the tokens they were about.
    """

    def __init__(self) -> None:
        self.tokens = {"good": token_body("alice", ("member", "reader"), "p1")}
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.subjects: list[str] = []
        self.waiting = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def version(self) -> dict[str, Any]:
        return {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/v3/"}]}

    def answer(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Any, dict[str, str]]:
        path, _, query = path.partition("?")
        path = path.rstrip("/")
        self.asked.append(f"{method} {path or '/'}")
        if path == "":
            return 300, {"versions": {"values": [self.version()]}}, {}
        if path == "/v3":
            return 200, {"version": self.version()}, {}
        if path != "/v3/auth/tokens":
            return 404, {}, {}
        self.waiting += 1
        self.gate.wait(20)
        self.waiting -= 1
        if method == "GET":
            token = headers.get("X-Subject-Token")
            self.subjects.append(token)
            found = self.tokens.get(token)
            if found and found["token"]["expires_at"] < NOW and "allow_expired=1" not in query:
                found = None
            return (200, found, {"X-Subject-Token": token}) if found else (404, {"error": {"code": 404}}, {})
        login = body["auth"]["identity"]["password"]["user"]
        if login["password"] == PASSWORD:
            project = body["auth"]["scope"]["project"]["id"]
            return (
                201,
                token_body(login["name"], ("member", "reader"), project),
                {"X-Subject-Token": f"token-of-{login['name']}"},
            )
        if login["password"] == SERVICE_PASSWORD:
            service = token_body("heat", ("service",), "services")
            places = [
                {"interface": kind, "region": "R", "url": f"{self.url}/v3"} for kind in ("public", "internal", "admin")
            ]
            service["token"]["catalog"] = [{"type": "identity", "name": "keystone", "endpoints": places}]
            return 201, service, {"X-Subject-Token": "service-token"}
        return 401, {"error": {"code": 401, "title": "Unauthorized", "message": "no"}}, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keystone = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # head and body in one packet: two would wait for the client's delayed acknowledgement
            wbufsize = 65_536

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
                status, answer, headers = keystone.answer(self.command, self.path, self.headers, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            do_POST = do_GET

        return Handler


@contextlib.contextmanager
def keystone() -> Iterator[FakeKeystone]:
    """A Keystone for one test."""
    server = FakeKeystone()
    try:
        yield server
    finally:
        server.close()
