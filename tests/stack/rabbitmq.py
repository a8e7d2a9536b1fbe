"""A RabbitMQ node of our own: private node name, ports, cookie, data folder and port mapper.

In: a run directory. Out: a node that answers AMQP on ``port``, with as many virtual hosts as asked for. It runs as the
calling user: the distribution's wrapper in /usr/sbin insists on the user rabbitmq and on /var/lib/rabbitmq, so the
scripts behind it are called. Nothing of it touches a broker that the machine runs already.
"""

import glob
import secrets
import shutil
import socket
from pathlib import Path

from .process import Part, Process, StackError, environment, free_port, listening, run, wait_until

_SCRIPT_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/rabbitmq/sbin")
_USER = "heat"
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = 1


def _script(name: str) -> str:
    for pattern in _SCRIPT_FOLDERS:
        for folder in sorted(glob.glob(pattern), reverse=True):
            if (Path(folder) / name).exists():
                return str(Path(folder) / name)
    found = shutil.which(name)
    if not found:
        raise StackError(f"{name} is missing; install the package rabbitmq-server (make system does, as root)")
    return found


class RabbitMQ(Part):
    """One private node; ``url(vhost)`` is what goes into transport_url."""

    name = "rabbitmq"

    def __init__(self, directory: Path, boot_timeout: float = 90.0) -> None:
        super().__init__(directory)
        self.boot_timeout = boot_timeout
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.vhosts = {"/"}
        self._mapper_port = free_port()
        self._node: Process | None = None
        self._mapper: Process | None = None

    @property
    def logs(self) -> list[Path]:
        return sorted((self.directory / "log").glob("*.log")) + super().logs

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
        import amqp

        with amqp.Connection(
            f"127.0.0.1:{self.port}", userid=_USER, password=self.password, virtual_host=vhost, connect_timeout=5
        ) as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
            except amqp.exceptions.NotFound:
                return 0

    def _environment(self) -> dict[str, str]:
        home = self.directory
        return environment(
            HOME=str(home),
            ERL_EPMD_PORT=str(self._mapper_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"heatperf{self.port}@localhost",
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
        cookie.write_text(secrets.token_hex(16))
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
        # The node would start a port mapper that outlives it; one started here is our child and found in its place.
        self._mapper = Process("epmd", ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"], home, env)
        self._mapper.start()
        wait_until(lambda: listening(self._mapper_port), 10, "listen", self._mapper)
        self._node = Process("rabbitmq", [_script("rabbitmq-server")], home, env, stop_timeout=30)
        self._node.start()
        wait_until(self._answers, self.boot_timeout, "answer AMQP", self._node, interval=0.2)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(_AMQP_HEADER)
                return connection.recv(1) == bytes([_METHOD_FRAME])
        except OSError:
            return False

    def _control(self, *arguments: str) -> str:
        return run([_script("rabbitmqctl"), "-q", *arguments], timeout=60, env=self._environment(), cwd=self.directory)

    def _stop(self) -> None:
        for process in (self._node, self._mapper):
            if process:
                process.stop()
        self._node = self._mapper = None
