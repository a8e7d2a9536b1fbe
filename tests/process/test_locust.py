"""The load of bench/ with the real locust, in front of a development server and of one that answers nonsense."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from stack.development import Development

ROOT = Path(__file__).resolve().parents[2]
LOCUST = Path(sys.executable).parent / "locust"
USERS = ("Reader", "Deployer", "Operator")


def locust(*arguments):
    """Run it to its end; its exit code is 1 where anything failed."""
    words = [LOCUST, "-f", "bench/", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)


def load(url, *arguments):
    """A headless run; exit code and statistics, an entry per row."""
    done = locust("--headless", "--json", "--host", url, *arguments)
    return done.returncode, {row["name"]: row for row in json.loads(done.stdout)}


class Nonsense(http.server.BaseHTTPRequestHandler):
    """Says 200 to everything, with JSON that means nothing."""

    def do_GET(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response({"POST": 201, "PUT": 202}.get(self.command, 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "17")
        self.end_headers()
        self.wfile.write(b'{"stacks": [{}]}\n')

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def nonsense():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_folder_gives_the_users_and_nothing_else():
    done = locust("--list")
    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.split()[2:]) == USERS


def test_a_development_server_bears_it_without_a_failure(launcher, tmp_path):
    server = launcher.start(Development(tmp_path / "server", workers=2))
    try:
        code, rows = load(server.url, "-u", 5, "-r", 5, "-t", "5s", *USERS)
        left = server.project().stacks()
    finally:
        launcher.stop(server)
    assert {name: row["num_failures"] for name, row in rows.items() if row["num_failures"]} == {}
    assert code == 0
    # nobody has been idle
    assert rows["list stacks"]["num_requests"] > 0
    assert rows["create until complete"]["num_requests"] >= 2
    assert left == {}


def test_wrong_answers_of_the_right_status_are_failures(nonsense):
    code, rows = load(nonsense, "-u", 2, "-r", 2, "-t", "2s", "Deployer", "Operator")
    assert code == 1
    assert rows["create stack"]["num_failures"] == rows["create stack"]["num_requests"] > 0
