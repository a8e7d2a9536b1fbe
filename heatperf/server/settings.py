"""The server's settings as values: parsed by the command line, read by supervisor and workers.

Raises ConfigurationError for a bind that cannot be understood. Any process; nothing here touches the system.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from heatperf.errors import ConfigurationError
from heatperf.loops.base import HttpLimits

BIND_FORMS = "give HOST:PORT, [IPV6]:PORT or unix:PATH[,mode=0660][,owner=USER[:GROUP]]"


@dataclass(frozen=True)
class Bind:
    """One place to listen: TCP (host and port) or a unix socket (path)."""

    host: str = ""
    port: int = 0  # 0 lets the kernel choose
    path: str | None = None
    mode: int | None = None  # permission bits of the socket file; None leaves it to the umask
    owner: str | None = None  # "user", "user:group" or ":group", names or numbers

    @classmethod
    def parse(cls, text: str) -> Bind:
        """
        :param text: as given to --bind
        :raises ConfigurationError: it has none of the forms
        """
        if text.startswith("unix:"):
            return cls._parse_unix(text)
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or (":" in host and not bracketed):
            raise ConfigurationError(f"--bind {text} is not an address", remedy=BIND_FORMS)
        # By length first: int() refuses some thousands of digits with a ValueError.
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
            raise ConfigurationError(f"--bind {text}: {port!r} is not a port number", remedy=BIND_FORMS)
        host = host[1:-1] if bracketed else host
        return cls(host="0.0.0.0" if host in ("", "*") else host, port=int(port))  # noqa: S104 - as asked for

    @classmethod
    def _parse_unix(cls, text: str) -> Bind:
        path, *options = text[len("unix:") :].split(",")
        mode: int | None = None
        owner: str | None = None
        if not path:
            raise ConfigurationError(f"--bind {text}: the path is missing", remedy=BIND_FORMS)
        for option in options:
            name, _, value = option.partition("=")
            if name == "mode":
                try:
                    mode = int(value, 8)
                except ValueError:
                    mode = -1
                if not 0 <= mode <= 0o777:
                    raise ConfigurationError(f"--bind {text}: {value!r} is not an octal mode", remedy=BIND_FORMS)
            elif name == "owner" and value:
                owner = value
            else:
                raise ConfigurationError(f"--bind {text}: {option!r} is not understood", remedy=BIND_FORMS)
        return cls(path=path, mode=mode, owner=owner)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class TLS:
    """Paths of PEM files: the certificate with its chain, and its key."""

    cert_file: str
    key_file: str


@dataclass(frozen=True)
class Specification:
    """A side process, see side.py.

    :param name: for the log and for ps, at most 6 characters
    :param entry: "module:function"
    :param arguments: JSON
    """

    name: str
    entry: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class ServerSettings:
    """Everything the supervisor needs to know. Times in seconds."""

    workers: int
    binds: tuple[Bind, ...]
    backlog: int = 4096  # heat.conf [heat_api] backlog
    tcp_keepidle: int = 600  # heat.conf [heat_api] tcp_keepidle
    tls: TLS | None = None
    loop: str = "gevent"
    # Each worker keeps to one CPU, see pinning.
    pin: bool = False
    limits: HttpLimits = field(default_factory=HttpLimits)
    # systemd sends KILL 90 s after TERM unless told otherwise; the drain must be over before.
    drain_timeout: float = 30.0
    # How long a draining worker keeps connections on which nothing is under way: their next request is answered, with
    # Connection: close. Without it a client may send into a connection that is just being closed. nginx closes at
    # once; load balancers that pool connections use each of them every few seconds.
    keepalive_grace: float = 5.0
    # The loop writes a heartbeat twice a second. Parsing the largest template takes less than a second; a worker that
    # is silent for as long as this is stuck. 0: never.
    watchdog_timeout: float = 60.0
    # A worker that has not said "ready" by then is killed and replaced: connecting to a broker and to Keystone, with
    # their own timeouts (oslo.messaging waits 30 s for a connection), fits in.
    boot_deadline: float = 90.0
    access_log: bool = True
    # Processes that the workers of this configuration need beside them. Those that the next one wants too go on.
    sides: tuple[Specification, ...] = ()
    title: str = "Heat REST API"
    # Upstream keeps trying to bind a taken address for 30 s, so that a restart survives its predecessor's drain.
    bind_retry: float = 30.0

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> ServerSettings:
        """
        :param values: dataclasses.asdict() of settings, after a way through JSON
        """
        known = {each.name for each in fields(cls)}  # a zygote of a newer version may know more
        return cls(
            **{
                **{name: value for name, value in values.items() if name in known},
                "binds": tuple(Bind(**bind) for bind in values["binds"]),
                "tls": None if values["tls"] is None else TLS(**values["tls"]),
                "limits": HttpLimits(**values["limits"]),
                "sides": tuple(Specification(**side) for side in values.get("sides", ())),
            }
        )
