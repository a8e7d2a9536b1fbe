"""The real parts that Heat runs among, each started privately for a test run.

Every class here has ``start()``, ``stop()`` and works as a context manager; each gets a run directory of its own (its
configuration, data and logs), picks free loopback ports, waits a bounded time until it serves, and leaves no process
behind. What is missing on the machine, or does not come up, raises ``StackError`` with the remedy or the end of the
log: tests let it fail them, they never skip.

Used by tests/conftest.py (session fixtures) and by tests/conformance/run.py, in whose process all of this runs; the
parts are its child processes, and must be started from its main thread (they end with the thread that started them).
"""

from .api import Heatperf, UpstreamApi
from .client import CommandFailed, OpenStackClient, Report, client_versions, run_script
from .cloud import Cloud
from .engine import HeatEngine
from .keystone import Credentials, Keystone
from .mariadb import MariaDB
from .memcached import Memcached
from .process import Part, Process, StackError, free_port, wait_until
from .rabbitmq import RabbitMQ

__all__ = [
    "Cloud",
    "CommandFailed",
    "Credentials",
    "HeatEngine",
    "Heatperf",
    "Keystone",
    "Memcached",
    "MariaDB",
    "OpenStackClient",
    "Part",
    "Process",
    "RabbitMQ",
    "Report",
    "StackError",
    "UpstreamApi",
    "client_versions",
    "free_port",
    "run_script",
    "wait_until",
]
