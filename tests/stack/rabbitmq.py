"""A RabbitMQ node of our own: private node name, ports, cookie, data folder and port mapper.

In: a run directory. Out: a node that answers AMQP on ``port``, with as many virtual hosts as asked for. It runs as the
calling user: the distribution's wrapper in /usr/sbin insists on the user rabbitmq and on /var/lib/rabbitmq, so the
scripts behind it are called. Nothing of it touches a broker that the machine runs already.

For tests of faults a node can be killed, halted and started again on its data, and a second one can join its cluster.

HEATPERF_TEST_BROKER may name a folder with another system (tools/make-broker): then the node is that system's RabbitMQ.
"""

import glob
import json
import os
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

from .process import Part, Process, StackError, environment, free_port, listening, run, wait_until

_IN_ROOT = Path(__file__).parents[2] / "tools" / "in-root"
_SCRIPT_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/rabbitmq/sbin")
_USER = "heat"
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = 1


def _root() -> Path | None:
    """The system whose RabbitMQ is to be run, if it is not this one.

    :raises StackError: there is none
    """
    root = os.environ.get("HEATPERF_TEST_BROKER")
    if not root:
        return None
    if not Path(root, "usr/lib/rabbitmq").is_dir():
        raise StackError(f"There is no RabbitMQ in {root} (HEATPERF_TEST_BROKER); tools/make-broker makes one")
    return Path(root).resolve()


def _command(name: str, home: Path) -> list[str]:
    """What runs one of RabbitMQ's programs on the files in a folder."""
    root = _root()
    for pattern in _SCRIPT_FOLDERS:
        for folder in sorted(glob.glob(f"{root or ''}{pattern}"), reverse=True):
            found = Path(folder) / name
            if root is None and found.exists():
                return [str(found)]
            if root is not None and os.path.lexists(found):  # a link would lead into this system
                return [str(_IN_ROOT), str(root), str(home.resolve()), f"/{found.relative_to(root)}"]
    which = None if root else shutil.which(name)
    if not which:
        raise StackError(f"{name} is missing; install the package rabbitmq-server (make system does, as root)")
    return [which]


class RabbitMQ(Part):
    """One private node; ``url(vhost)`` is what goes into transport_url.

    :param partner: a running node whose cluster this one joins when it starts
    """

    name = "rabbitmq"

    def __init__(self, directory: Path, boot_timeout: float = 90.0, partner: "RabbitMQ | None" = None) -> None:
        super().__init__(directory)
        self.boot_timeout = boot_timeout
        self.port = free_port()
        self.partner = partner
        self.user = _USER
        self.password = partner.password if partner else secrets.token_hex(8)
        self.vhosts = partner.vhosts if partner else {"/"}
        self._cookie = partner._cookie if partner else secrets.token_hex(16)
        self._mapper_port = partner._mapper_port if partner else free_port()
        self._node: Process | None = None
        self._mapper: Process | None = None

    @property
    def logs(self) -> list[Path]:
        return sorted((self.directory / "log").glob("*.log")) + super().logs

    @property
    def _node_name(self) -> str:
        return f"heatperf{self.port}@localhost"

    @property
    def node_pid(self) -> int:
        """Process id of the Erlang machine's start script (its children are the node)."""
        if self._node is None:
            raise StackError("rabbitmq was not started")
        return self._node.pid

    def url(self, vhost: str = "/") -> str:
        """transport_url of a virtual host, which is created when it does not exist yet."""
        if vhost not in self.vhosts:
            self._control("add_vhost", vhost)
            self._control("set_permissions", "-p", vhost, _USER, ".*", ".*", ".*")
            self.vhosts.add(vhost)
        return f"rabbit://{_USER}:{self.password}@127.0.0.1:{self.port}/{'' if vhost == '/' else vhost}"

    def consumers(self, queue: str, vhost: str = "/") -> int:
        """How many consume from a queue; 0 also when there is no such queue."""
        return self._look(queue, vhost, "consumer_count")

    def _look(self, queue: str, vhost: str, what: str) -> int:
        import amqp

        with self._connection(vhost) as connection:
            try:
                return int(getattr(connection.channel().queue_declare(queue, passive=True), what))
            except amqp.exceptions.NotFound:
                return 0

    def _connection(self, vhost: str) -> Any:
        import amqp

        return amqp.Connection(
            f"127.0.0.1:{self.port}", userid=_USER, password=self.password, virtual_host=vhost, connect_timeout=5
        )

    def _environment(self) -> dict[str, str]:
        home = self.directory
        return environment(
            HOME=str(home),
            ERL_EPMD_PORT=str(self._mapper_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=self._node_name,
            RABBITMQ_DIST_PORT=str(self._dist_port),
            RABBITMQ_MNESIA_BASE=str(home / "data"),
            RABBITMQ_LOG_BASE=str(home / "log"),
            RABBITMQ_CONFIG_FILE=str(home / "rabbitmq.conf"),
            RABBITMQ_CONF_ENV_FILE=str(home / "no-rabbitmq-env.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(home / "enabled_plugins"),
            RABBITMQ_GENERATED_CONFIG_DIR=str(home / "generated"),
            # Two cores are shared with everything else that a test run starts: idle schedulers must not spin.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )

    def _start(self) -> None:
        home = self.directory
        self._dist_port = free_port()
        for folder in ("data", "log", "generated"):
            (home / folder).mkdir(exist_ok=True)
        cookie = home / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            f"default_user = {_USER}\ndefault_pass = {self.password}\n"
            # A test machine with a full disk or little memory would otherwise block every publisher without a word.
            "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.8\n"
            "log.file.level = info\nlog.console = false\n"
        )
        env = self._environment()
        if self.partner is None:
            # The node would start a port mapper that outlives it; one started here is our child and found in its place.
            mapper = ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
            self._mapper = Process("epmd", mapper, home, env)
            self._mapper.start()
            wait_until(lambda: listening(self._mapper_port), 10, "listen", self._mapper)
        self._node = Process("rabbitmq", _command("rabbitmq-server", home), home, env, stop_timeout=30)
        self.boot()
        if self.partner is not None:
            self._control("stop_app")
            self._control("join_cluster", self.partner._node_name)
            self._control("start_app")
            wait_until(self._answers, self.boot_timeout, "answer AMQP", self._node, interval=0.2)

    # Faults

    def kill(self) -> None:
        """SIGKILL to the node, wherever it is; ``boot`` starts it again."""
        if self._node is None:
            raise StackError("rabbitmq was not started")
        self._node.kill()

    def halt(self) -> None:
        """Stop the node as an operator would; ``boot`` starts it again."""
        if self._node is None:
            raise StackError("rabbitmq was not started")
        self._node.stop()

    def boot(self) -> None:
        """Start the node, with the data that it has, and wait until it answers."""
        if self._node is None:
            raise StackError("rabbitmq was not started")
        self._node.start()
        wait_until(self._answers, self.boot_timeout, "answer AMQP", self._node, interval=0.1)

    def ensure(self) -> None:
        """Start the node where it does not run."""
        if self._node is not None and not self._node.running:
            self.boot()

    def leave(self) -> None:
        """Have this node forget its cluster, and the cluster this node; it serves no more."""
        self._control("stop_app")
        self._control("reset")

    def version(self) -> str:
        """Of the broker and the machine it runs on."""
        status = self._status()
        return f"RabbitMQ {status['rabbitmq_version']} on {status['erlang_version'].split(' [')[0]}"

    def _status(self) -> Any:
        return json.loads(self._control("status", "--formatter", "json"))

    def by_majority(self) -> bool:
        """Whether a cluster works only while most of its nodes do, whatever its queues are. So it is from 4.2 on, where
        Khepri keeps what clusters know."""
        version = self._status()["rabbitmq_version"]
        return tuple(int(part) for part in version.split(".")[:2]) >= (4, 2)

    def alarm(self, on: bool) -> None:
        """Raise or clear the alarm of a node without memory, under which it takes no messages."""
        self._control("set_vm_memory_high_watermark", "0.00001" if on else "0.8")

    def delete_queue(self, queue: str) -> None:
        """Delete a queue of the vhost "/" with whatever is in it; harmless where there is none."""
        with self._connection("/") as connection:
            connection.channel().queue_delete(queue)

    def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange of the vhost "/"; harmless where there is none."""
        with self._connection("/") as connection:
            connection.channel().exchange_delete(exchange)

    def messages(self, queue: str) -> int:
        """How many wait in a queue of the vhost "/"; 0 also when there is no such queue."""
        return self._look(queue, "/", "message_count")

    def queues(self) -> list[str]:
        """Names of the queues of the vhost "/"."""
        return self._control("list_queues", "name", "--no-table-headers").split()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(_AMQP_HEADER)
                return connection.recv(1) == bytes([_METHOD_FRAME])
        except OSError:
            return False

    def _control(self, *arguments: str) -> str:
        command = [*_command("rabbitmqctl", self.directory), "-q", *arguments]
        return run(command, timeout=60, env=self._environment(), cwd=self.directory)

    def _stop(self) -> None:
        for process in (self._node, self._mapper):
            if process:
                process.stop()
        self._node = self._mapper = None
