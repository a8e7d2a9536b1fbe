"""The servers under comparison: how each is started, as data. All take the same heat.conf.

To add one, append a ServerKind. Its ``start`` gets a Setting and returns a part of tests/stack that is not started yet.
Every server writes one access line per request into a file, as deployments have it.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _paths import BENCH
from stack import Heatperf, UpstreamApi
from stack.api import ApiServer
from stack.paths import HEAT_PEER, peer
from stack.process import environment, listening

#: Of gunicorn and of uWSGI on Debian: puppet-heat's default.
THREADS = 32
#: Seconds that a client may keep an idle connection. uWSGI keeps none.
KEEPALIVE = 75


@dataclass(frozen=True)
class Setting:
    """Where and how large.

    :param cpu: bind all processes to this CPU
    """

    directory: Path
    config_file: Path
    workers: int = 2
    cpu: int | None = None


@dataclass(frozen=True)
class ServerKind:
    """:param key: its name in results
    :param how: for readers, what its processes are
    """

    key: str
    name: str
    how: str
    start: Callable[[Setting], ApiServer]


class _Uwsgi(UpstreamApi):
    """Upstream's application as tests/stack starts it, plus what deployments add."""

    more: Sequence[str] = ("--thunder-lock",)

    def command(self) -> list[str | Path]:
        return [*super().command(), *self.more]


class _UwsgiThreads(_Uwsgi):
    name = "upstream-threads"
    more = ("--thunder-lock", "--threads", str(THREADS), "--listen", "100")


class _UwsgiRouter(_Uwsgi):
    """With uWSGI's own HTTP router in front, one more process that every request passes."""

    name = "upstream-router"

    def command(self) -> list[str | Path]:
        return ["--http" if word == "--http-socket" else word for word in super().command()]


class _Gunicorn(UpstreamApi):
    name = "upstream-gunicorn"

    def command(self) -> list[str | Path]:
        super().command()  # writes the module
        return [
            peer(HEAT_PEER, "gunicorn"),
            *("--worker-class", "gthread", "--workers", str(self.workers), "--threads", str(THREADS)),
            *("--keep-alive", str(KEEPALIVE), "--bind", f"127.0.0.1:{self.port}", "--access-logfile", "-"),
            *("--no-control-socket", "--chdir", self.directory, "upstream_api:application"),
        ]


class _Pinned(Heatperf):
    """heatperf; all its processes on one CPU, and on another loop, if asked for."""

    cpu: int | None = None
    loop: str | None = None

    def command(self) -> list[str | Path]:
        return [*_pin(self.cpu), *super().command(), *(["--loop", self.loop] if self.loop else [])]


class Bare(ApiServer):
    """The HTTP layer alone, around an application that answers two bytes (_bare.py)."""

    name = "bare"
    access_log = False
    loop = "gevent"
    cpu: int | None = None

    def command(self) -> list[str | Path]:
        words = [sys.executable, BENCH / "_bare.py", "--port", str(self.port), "--workers", str(self.workers)]
        return [*_pin(self.cpu), *words, "--loop", self.loop, *(["--access-log"] if self.access_log else [])]

    def _environment(self) -> dict[str, str]:
        return environment(PYTHONPATH=str(BENCH))

    def _answers(self) -> bool:
        return listening(self.port)


class Plain(Bare):
    """The plainest loop (_plain.py)."""

    name = "plain"

    def command(self) -> list[str | Path]:
        return [*_pin(self.cpu), sys.executable, BENCH / "_plain.py", "--port", str(self.port)]


def _pin(cpu: int | None) -> list[str | Path]:
    return [] if cpu is None else ["taskset", "-c", str(cpu)]


def upstream(kind: type[UpstreamApi]) -> Callable[[Setting], ApiServer]:
    """How to start a class of upstream's servers."""
    return lambda at: kind(at.directory, at.config_file, workers=at.workers)


def heatperf(at: Setting, loop: str | None = None) -> ApiServer:
    """heatperf with the settings it has by default.

    :param loop: another one
    """
    server = _Pinned(at.directory, at.config_file, workers=at.workers)
    server.cpu, server.loop = at.cpu, loop
    return server


def plain(at: Setting) -> ApiServer:
    """The plainest loop there is."""
    server = Plain(at.directory, at.config_file, workers=1)
    server.cpu = at.cpu
    return server


def bare(at: Setting, access_log: bool = False, loop: str = "gevent") -> ApiServer:
    """The HTTP layer alone."""
    server = Bare(at.directory, at.config_file, workers=at.workers)
    server.cpu, server.access_log, server.loop = at.cpu, access_log, loop
    return server


#: The first of them is what the others are held against.
COMPARED = (
    ServerKind(
        "uwsgi",
        "heat-api, uWSGI 1 thread",
        "upstream's WSGI application; N processes of 1 thread, lazy-apps, thunder-lock, Connection: close: the options"
        " of kolla-ansible, OpenStack-Ansible and OpenStack-Helm",
        upstream(_Uwsgi),
    ),
    ServerKind(
        "uwsgi-threads",
        "heat-api, uWSGI 32 threads",
        f"the same with {THREADS} threads per process and listen 100: puppet-heat on Debian",
        upstream(_UwsgiThreads),
    ),
    ServerKind(
        "gunicorn",
        "heat-api, gunicorn gthread",
        f"the same application; N processes of {THREADS} threads, connections kept alive for {KEEPALIVE} s:"
        " the best other way to host it that we know",
        upstream(_Gunicorn),
    ),
    ServerKind("heatperf", "heatperf", "heatperf serve, N workers, every option at its default", heatperf),
)
OPTIONAL = (
    ServerKind(
        "uwsgi-router",
        "heat-api, uWSGI with router",
        "as the first, with uWSGI's HTTP router in front (http = instead of http-socket =), which is kolla-ansible's",
        upstream(_UwsgiRouter),
    ),
)
BY_KEY = {kind.key: kind for kind in (*COMPARED, *OPTIONAL)}
