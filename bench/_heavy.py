"""What heavy requests cost the others: latency of the version document, idle and while large templates are parsed.

    python bench/_heavy.py [--size BYTES] [--form yaml|json|object] [--helpers N] [--workers N] [--loop NAME]

Starts ``heatperf serve --dev``. Its engine refuses the templates, for having more resources than a stack may have,
which costs it little: what is measured is the API in front of it. One process asks for ``/`` at a fixed rate and
measures from the moment each request was due, so that a stall counts for every request it delays; another posts
templates to /validate, one after the other. Idle and busy rounds take turns. Prints median, p99 and worst, and busy p99
over idle p99.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def template(size: int) -> str:
    """A template of about ``size`` bytes, as people write them."""
    parts = ["heat_template_version: 2021-04-16\nresources:\n"]
    written = 0
    while written < size - 100:
        name = f"server_{len(parts)}"
        text = (
            f"  {name}:\n    type: OS::Nova::Server\n    depends_on: [port_{name}, volume_{name}]\n    properties:\n"
            f"      name: {{str_replace: {{template: web-NUM, params: {{NUM: '{len(parts)}'}}}}}}\n"
            "      image: {get_param: image}\n      flavor: m1.small\n      networks:\n"
            f"        - port: {{get_resource: port_{name}}}\n      metadata: {{a: 1, b: two, c: 3.5}}\n"
        )
        parts.append(text)
        written += len(text)
    return "".join(parts)


def body_of(form: str, size: int) -> bytes:
    """The JSON body that carries a template, as YAML or JSON text, or as an object."""
    text = template(size)
    if form == "yaml":
        return json.dumps({"template": text}).encode()
    sys.path.insert(0, str(ROOT))
    from heatperf.api.template_format import parse_template

    value = parse_template(text, 1 << 30)
    return json.dumps({"template": value if form == "object" else json.dumps(value)}).encode()


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[int]:
    """A server of this checkout; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        limit = max(1 << 20, 2 * options.size)
        file = Path(folder) / "heat.conf"
        file.write_text(
            f"[DEFAULT]\nmax_template_size = {limit}\nmax_json_body_size = {2 * limit}\n"
            f"[heatperf]\nhelper_processes = {options.helpers}\nloop = {options.loop}\n"
        )
        command = [sys.executable, "-m", "heatperf", "serve", "--dev", "--config-file", str(file)]
        command += ["--bind", f"127.0.0.1:{port}", "--workers", str(options.workers), "--control", f"{folder}/control"]
        command += ["--state", f"{folder}/state"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)  # noqa: S603 - our own server
        try:
            if not answers(port):
                raise SystemExit(f"the server did not start: {Path(folder, 'log').read_text()[-2000:]}")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def workers_of(port: int) -> list[int]:
    """Pids of the workers of a server of ours, by its command line and their names."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text() == "heatperf-worker\n" and _listens(entry, port):
                found.append(int(entry.name))
    return found


def _listens(entry: Path, port: int) -> bool:
    inodes = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if f":{port:04X} " in line}
    return any(os.readlink(fd) in {f"socket:[{inode}]" for inode in inodes} for fd in (entry / "fd").iterdir())


def answers(port: int) -> bool:
    """Whether somebody does, soon."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        time.sleep(0.1)
    return False


def post(port: int, body: bytes, stop: Any, answered: Any) -> None:
    """Post templates until told to stop; in a process of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while not stop.is_set():
        connection.request("POST", "/v1/p/validate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 400 or b"Maximum resources" not in text:
            print(f"unexpected: {answer.status} {text[:300]!r}", file=sys.stderr)
            time.sleep(0.1)
        answered.value += 1


def ask(port: int, rate: float, seconds: float) -> list[float]:
    """Latencies of ``/`` in milliseconds, from the moment each request was due."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
    found = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter() + 0.01
        for number in range(int(rate * seconds)):
            due = start + number / rate
            while (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            sock.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                data += sock.recv(65536)
            found.append((time.perf_counter() - due) * 1e3)
    return found


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=450_000)
    parser.add_argument("--form", choices=("yaml", "json", "object"), default="yaml")
    parser.add_argument("--helpers", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--loop", default="gevent")
    parser.add_argument("--rate", type=float, default=100.0, help="requests for / per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--realtime", action="store_true",
        help="put workers and the one who measures before all other processes (root only): for a machine that is not"
        " quiet. Helpers, engine and posting client stay as they are",
    )  # fmt: skip
    options = parser.parse_args()
    body = body_of(options.form, options.size)
    idle: list[float] = []
    busy: list[float] = []
    ratios = []
    total = multiprocessing.Value("i", 0)
    with server(options) as port:
        ask(port, options.rate, 1.0)
        if options.realtime:
            for pid in (os.getpid(), *workers_of(port)):
                os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
        for _ in range(options.rounds):
            quiet = ask(port, options.rate, options.seconds)
            stop = multiprocessing.Event()
            poster = multiprocessing.Process(target=post, args=(port, body, stop, total))
            poster.start()
            time.sleep(0.3)
            loaded = ask(port, options.rate, options.seconds)
            stop.set()
            poster.join()
            idle += quiet
            busy += loaded
            ratios.append(percentile(loaded, 0.99) / percentile(quiet, 0.99))
    for name, values in (("idle", idle), ("busy", busy)):
        print(
            f"{name}: median {statistics.median(values):.2f} ms, p99 {percentile(values, 0.99):.2f} ms,"
            f" worst {max(values):.2f} ms"
        )
    ratio = percentile(busy, 0.99) / percentile(idle, 0.99)
    print(
        f"{options.form} of {len(body)} bytes, {options.workers} workers on {options.loop}, {options.helpers} helpers,"
        f" {os.cpu_count()} CPUs: {total.value} templates;"
        f" p99 busy/idle {ratio:.2f}, median of rounds {statistics.median(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
