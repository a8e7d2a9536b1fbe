"""One configuration variant served twice: by upstream's heat-api under uWSGI and by heatperf.

In: a run directory, a broker, the variant's name (upstream/variants.py). Out: two peers that answer a case with what
the recorded cases keep of an answer: the HTTP response and the RPC messages it led to, both normalised. Each peer has
a virtual host and a recording engine of its own, so that messages are told apart by where they arrive. Raises
StackError when a part does not start. Start from the main thread: parts end with the thread that started them.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from stack import Heatperf, Part, Process, RabbitMQ, StackError, UpstreamApi, free_port, paths, wait_until
from stack.api import ApiServer
from stack.process import environment, listening

from heatperf.policy.enforcer import INTERVAL

UPSTREAM = Path(__file__).resolve().parents[1] / "upstream"
# The recorded cases' own modules; they are programs, not a package, and are used here as they are.
sys.path.insert(0, str(UPSTREAM))
import replay  # type: ignore[import-not-found]  # noqa: E402
import variants  # type: ignore[import-not-found]  # noqa: E402

# Both sides' messages print Python sets; the same order on both makes fewer differences of no meaning.
HASH_SEED = {"PYTHONHASHSEED": "0"}


class Upstream(UpstreamApi):
    """As the recorded cases ran it: one process, so that nothing depends on which of several answers."""

    def command(self) -> list[str | Path]:
        return [*super().command(), "--threads", "2", "--disable-logging"]

    def _environment(self) -> dict[str, str]:
        return environment(**HASH_SEED)


class Peer(Part):
    """One API server with the recording engine behind it.

    :param kind: ``upstream`` or ``heatperf``
    """

    name = "peer"

    def __init__(self, directory: Path, kind: str, variant: str, transport_url: str, keystone_url: str) -> None:
        super().__init__(directory)
        self.kind = kind
        self.variant = variant
        self._transport_url = transport_url
        self._keystone_url = keystone_url
        self._engine: Process | None = None
        self._server: ApiServer | None = None
        self._messages: TextIO | None = None
        self._names: Any = None

    def _start(self) -> None:
        files = variants.render(
            self.variant, str(self.directory), self._keystone_url, self._transport_url, "heat", "heat"
        )
        for name, text in files.items():
            (self.directory / name).write_text(text)
        config = self.directory / "heat.conf"
        log, ready = self.directory / "engine.jsonl", self.directory / "engine.ready"
        log.touch()
        command = [paths.peer(paths.HEAT_PEER, "python"), UPSTREAM / "recording_engine.py"]
        command += ["--config-file", config, "--log", log, "--ready-file", ready]
        self._engine = Process("engine", [str(word) for word in command], self.directory)
        self._engine.start()
        server: ApiServer
        if self.kind == "upstream":
            server = Upstream(self.directory, config, workers=1)
        else:
            server = Heatperf(self.directory, config, workers=1, env=HASH_SEED)
        self._server = server
        server.start()
        wait_until(ready.exists, 60, "serve", self._engine)
        self._messages = log.open()
        self._names = replay.Vars(argparse.Namespace(keystone_url=self._keystone_url))
        self._names.add("server", f"127.0.0.1:{server.port}")
        self._names.add("keystone", self._keystone_url)

    def _stop(self) -> None:
        for part in (self._server, self._engine):
            if part:
                part.stop()
        if self._messages:
            self._messages.close()

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.process.running

    def ask(self, case: dict[str, Any]) -> dict[str, Any]:
        """Send a case and return ``{"response", "rpc"}``; only one at a time."""
        if self._server is None or self._messages is None:
            raise StackError(f"{self.kind} was not started")
        answer: dict[str, Any] = replay.run_once(case, self._names, "127.0.0.1", self._server.port, self._messages)
        return answer

    def set_policy(self, text: str) -> None:
        """Replace policy.yaml."""
        new = self.directory / "policy.new"
        new.write_text(text)
        os.replace(new, self.directory / "policy.yaml")


class Peers(Part):
    """Both peers of a variant, and the stand-in for Keystone where the variant's flavor asks one."""

    name = "peers"

    def __init__(self, directory: Path, variant: str, broker: RabbitMQ) -> None:
        super().__init__(directory)
        self.variant = variant
        self._broker = broker
        self._keystone: Process | None = None
        self._parts: list[Peer] = []

    @property
    def flavor(self) -> str:
        return str(variants.flavor(self.variant))

    @property
    def upstream(self) -> Peer:
        return self._parts[0]

    @property
    def heatperf(self) -> Peer:
        return self._parts[1]

    def _start(self) -> None:
        keystone_url = "http://keystone.invalid:5000"
        if self.flavor == "default":
            port = free_port()
            python = paths.peer(paths.HEAT_PEER, "python")
            self._keystone = Process(
                "keystone", [str(python), str(UPSTREAM / "fake_keystone.py"), "--port", str(port)], self.directory
            )
            self._keystone.start()
            wait_until(lambda: listening(port), 20, "listen", self._keystone)
            keystone_url = f"http://127.0.0.1:{port}"
        for kind in ("upstream", "heatperf"):
            url = self._broker.url(f"{self.variant}-{kind}")
            peer = Peer(self.directory / kind, kind, self.variant, url, keystone_url)
            self._parts.append(peer)
            peer.start()

    def _stop(self) -> None:
        for part in (*self._parts, self._keystone):
            if part:
                part.stop()

    def set_policy(self, text: str) -> None:
        """Replace both policy files, and wait until both are in force.

        Upstream looks at its file at the next request, heatperf once a second.
        """
        for peer in self._parts:
            peer.set_policy(text)
        time.sleep(1.2 * INTERVAL)

    def compare(self, case: dict[str, Any]) -> "Comparison":
        """Ask both, one after the other."""
        return Comparison(case, self.upstream.ask(case), self.heatperf.ask(case))


class Comparison:
    """What both peers made of one case; ``differences`` are ``(kind, text)`` as for the recorded cases."""

    def __init__(self, case: dict[str, Any], expected: dict[str, Any], got: dict[str, Any]) -> None:
        self.case = case
        self.expected = expected
        self.got = got
        if died(expected["response"]):
            expected["crash"] = True
        self.differences: list[tuple[str, str]] = replay.compare(expected, got)


def died(response: dict[str, Any]) -> bool:
    """Whether upstream's application did not answer, so that uWSGI did, or nobody."""
    return response["status"] == 0 or (response["status"] == 500 and response["request_id"] == "absent")
