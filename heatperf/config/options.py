"""Every option of this server, declared once, with the names heat.conf has always had.

In: nothing. Out: ``OPTIONS`` (group -> options, ours), ``register(conf)`` (ours and those of the OpenStack libraries
that an API server reads) and ``list_opts()`` for oslo.config's own tools. Raises nothing; runs before the fork.

The groups [heat_api] and [eventlet_opts] went away upstream together with the eventlet server (25.0.0). Deployment
tools still render them and old files hold them, some in their even older place, [DEFAULT]; hence ``deprecated_group``.
"""

import copy
import socket

from keystoneauth1 import loading
from keystonemiddleware import opts as keystone_opts
from oslo_concurrency import opts as concurrency_opts
from oslo_config import cfg, types
from oslo_log import _options as log_options
from oslo_log import log
from oslo_middleware import opts as middleware_opts
from oslo_policy import opts as policy_opts
from oslo_reports import opts as reports_opts
from osprofiler import opts as profiler_opts

from heatperf.config import messaging

Groups = list[tuple[str | None, list[cfg.Opt]]]

AUTHTOKEN = "keystone_authtoken"

LOOPS = ("gevent", "meinheld", "uvloop")
RPC_TRANSPORTS = ("auto", "lean", "oslo")

#: Stations of the pipeline with two implementations, and what stock_filters may name besides ``all``.
LEAN_STATIONS = (
    "audit",
    "authtoken",
    "authurl",
    "context",
    "cors",
    "faultwrap",
    "http_proxy_to_wsgi",
    "noauth",
    "osprofiler",
    "request_id",
    "urlmap",
    "versionnegotiation",
)

# Far above what any machine gains from, far below what a slip of the keyboard can do to it.
MAX_WORKERS = 4096

_API: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        "bind_host",
        default="0.0.0.0",  # noqa: S104 - the published default of heat-api; an API server is meant to be reached
        deprecated_group="DEFAULT",
        help="Address to listen on. The default takes every IPv4 interface; '::' adds IPv6. Choose the internal address"
        " if a load balancer on another interface is the only intended caller.",
    ),
    cfg.PortOpt(
        "bind_port",
        default=8004,
        deprecated_group="DEFAULT",
        help="TCP port to listen on. The catalog of Keystone names this port, so change both together.",
    ),
    cfg.IntOpt(
        "backlog",
        default=4096,
        min=1,
        deprecated_group="DEFAULT",
        help="Connections the kernel holds for us while every worker is busy. Larger rides out bursts, smaller refuses"
        " sooner so that a load balancer can go elsewhere. The kernel caps it at net.core.somaxconn.",
    ),
    cfg.StrOpt(
        "cert_file",
        deprecated_group="DEFAULT",
        help="PEM file with the server certificate and its chain. Setting it (with key_file) turns TLS on; plain HTTP"
        " is never served on a port that was meant to be TLS.",
    ),
    cfg.StrOpt(
        "key_file",
        deprecated_group="DEFAULT",
        help="PEM file with the private key of cert_file, without a passphrase: nobody is there to type it when a"
        " worker starts at night.",
    ),
    cfg.IntOpt(
        "workers",
        default=0,
        min=0,
        max=MAX_WORKERS,
        deprecated_group="DEFAULT",
        help="Worker processes. 0 means one for each CPU that this process may run on (affinity, cpuset), fewer where a"
        " CPU quota or the memory of the cgroup allows fewer; 'heatperf hardware' shows what was found. A worker waits"
        " for hundreds of engine calls at once, so more workers than CPUs cost memory and broker connections and gain"
        " nothing; fewer leave CPUs to others on the same host.",
    ),
    cfg.IntOpt(
        "max_header_line",
        default=16384,
        min=256,
        deprecated_group="DEFAULT",
        help="Longest accepted header line in bytes. PKI and JWS tokens with many roles need room; each connection may"
        " hold this much before it is authenticated, so do not raise it without need.",
    ),
    cfg.IntOpt(
        "tcp_keepidle",
        default=600,
        min=1,
        max=32767,
        deprecated_group="DEFAULT",
        help="Seconds a connection may be silent before the kernel probes whether the peer still exists. Shorter frees"
        " resources of vanished clients sooner, longer saves packets. Stay below the idle timeout of firewalls.",
    ),
]

_CONNECTIONS: list[cfg.Opt] = [
    cfg.BoolOpt(
        "wsgi_keep_alive",
        default=True,
        deprecated_group="DEFAULT",
        help="Keep a connection open for the client's next request. False costs a TCP (and TLS) handshake per request;"
        " it only helps a balancer that cannot spread kept connections.",
    ),
    cfg.IntOpt(
        "client_socket_timeout",
        default=900,
        min=0,
        deprecated_group="DEFAULT",
        help="Seconds a kept connection may be idle before we close it; 0 waits for ever. Keep it above the idle"
        " timeout of the load balancer, else a request may meet a connection that is just being closed.",
    ),
]

_PASTE: list[cfg.Opt] = [
    cfg.StrOpt(
        "flavor",
        help="Which pipeline of the paste file to run: standalone (password per request), custombackend, noauth (trusts"
        " everybody: tests only), or nothing for Keystone tokens.",
    ),
    cfg.StrOpt(
        "api_paste_config",
        default="api-paste.ini",
        help="Paste file with the pipelines, absolute or searched beside the configuration files, then in ~/.heat, ~,"
        " /etc/heat and /etc.",
    ),
]

_DEFAULT: list[cfg.Opt] = [
    cfg.IntOpt(
        "max_json_body_size",
        default=1048576,
        min=0,
        help="Largest JSON request body in bytes. Templates travel inside it together with their files, so it must"
        " exceed max_template_size; each request in flight may hold this much memory in a worker.",
    ),
    cfg.IntOpt(
        "max_template_size",
        default=524288,
        min=0,
        help="Largest template in bytes, sent or fetched. Parsing time grows with it, and the engine has the same"
        " limit: keep both at one value.",
    ),
    cfg.FloatOpt(
        "template_fetch_timeout",
        default=60,
        min=0,
        help="Seconds a template_url may take to answer. The caller waits as long, so stay below the timeout of the"
        " load balancer.",
    ),
    cfg.IntOpt(
        "client_retry_limit",
        default=2,
        min=0,
        help="How often a connection to another OpenStack service is tried again. More hides short outages, and makes"
        " callers wait longer during real ones.",
    ),
    cfg.StrOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<hostname>",
        help="Name of this node. The API only signs its profiling traces with it; the engine names its queue after it,"
        " so a shared file should hold what the engine needs.",
    ),
]

_AUTH_PASSWORD: list[cfg.Opt] = [
    cfg.BoolOpt(
        "multi_cloud",
        default=False,
        help="Let each request name the Keystone to ask, in X-Auth-Url (pipelines with authpassword only). Opens the"
        " server to more than one cloud, limited to allowed_auth_uris.",
    ),
    cfg.ListOpt(
        "allowed_auth_uris",
        item_type=types.URI(schemes=["http", "https"]),
        default=[],
        help="The Keystone endpoints a request may name when multi_cloud is on. Passwords of callers are sent there, so"
        " list only what you trust; at least one is needed.",
    ),
]

_REVISION: list[cfg.Opt] = [
    cfg.StrOpt(
        "heat_revision",
        default="unknown",
        help="Text shown as the API's revision by build_info. Deployment tools write the build here; nothing depends on"
        " it.",
    ),
]

_NOAUTH: list[cfg.Opt] = [
    cfg.StrOpt(
        "token_response",
        default="",
        help="JSON file with the token body that the noauth pipeline pretends to have got from Keystone. Empty passes"
        " no token body, and resources that need the catalog will fail.",
    ),
]

_HEATPERF: list[cfg.Opt] = [
    cfg.StrOpt(
        "loop",
        default="gevent",
        choices=LOOPS,
        help="How a worker waits for its connections. gevent is always there; uvloop and meinheld have to be installed"
        " beside it, which a start without them says how to do, and may answer more per CPU: 'heatperf tune' measures"
        " which do on this machine.",
    ),
    cfg.BoolOpt(
        "pin_workers",
        default=False,
        help="Keep each worker on a CPU of its own, of those this process may run on, one thread of every core first."
        " Spares migrations between caches on a host that has nothing else to do; where others compete for the same"
        " CPUs, a worker cannot step aside any more.",
    ),
    cfg.FloatOpt(
        "drain_timeout",
        default=30,
        min=0,
        help="Seconds a stopping worker may take to answer what it has accepted. Longer loses fewer requests, shorter"
        " restarts faster; stay below the grace period of the service manager (systemd, Kubernetes).",
    ),
    cfg.FloatOpt(
        "keepalive_grace",
        default=5,
        min=0,
        help="Seconds for which a stopping worker keeps idle connections: their next request is still answered, with"
        " Connection: close. Longer spares clients that use a connection rarely a broken one, shorter stops sooner;"
        " drain_timeout bounds it.",
    ),
    cfg.FloatOpt(
        "watchdog_timeout",
        default=60,
        min=0,
        help="Seconds for which a worker's loop may stand still before the supervisor logs its stacks and replaces it;"
        " 0 never does. Shorter repairs sooner, but must be longer than the heaviest request keeps the CPU.",
    ),
    cfg.FloatOpt(
        "header_timeout",
        default=30,
        min=1,
        help="Seconds a client has to send the request line and all headers. Short stops clients that hold connections"
        " by sending slowly, long is kind to bad networks.",
    ),
    cfg.FloatOpt(
        "body_timeout",
        default=120,
        min=1,
        help="Seconds a client has to send the request body. Large templates on thin lines need it; a buffer is held"
        " meanwhile.",
    ),
    cfg.IntOpt(
        "rpc_concurrency",
        default=256,
        min=1,
        help="Calls to heat-engine in flight per worker. With the stock transport each holds one native thread while it"
        " waits. The lean one needs no threads: there the sum of this and rpc_queue bounds what is under way. An engine"
        " answers no faster for being asked more at once.",
    ),
    cfg.IntOpt(
        "rpc_queue",
        default=256,
        min=0,
        help="Requests per worker that may wait for a free RPC slot, beyond rpc_concurrency. Beyond both, callers get"
        " 503 with Retry-After at once instead of a timeout later.",
    ),
    cfg.StrOpt(
        "rpc_transport",
        default="auto",
        choices=RPC_TRANSPORTS,
        help="How RPC messages travel. lean is this server's own RabbitMQ client: the same messages as stock"
        " oslo.messaging's at a tenth of its CPU, two connections per worker, and 503 instead of long waits while no"
        " broker or engine is there. oslo is stock oslo.messaging. auto is lean wherever that can do what is"
        " configured, and says at start which option made it choose stock; lean refuses to start instead.",
    ),
    cfg.FloatOpt(
        "rpc_connect_deadline",
        default=5,
        min=0.1,
        help="Seconds a request waits for the message broker before it gets 503 with Retry-After; its message was then"
        " provably not sent. Longer rides out the restart of a broker, shorter tells clients sooner that there is none."
        " Lean transport only: stock oslo.messaging goes on trying for as long as the request lives.",
    ),
    cfg.FloatOpt(
        "rpc_engine_grace",
        default=15,
        min=0,
        help="Seconds without any engine on its queue for which requests are still sent, to wait there for one that is"
        " about to come back. After that they get 503 with Retry-After until there is one. Longer rides out slower"
        " restarts of engines, but during an outage as many seconds of requests wait for rpc_response_timeout. Lean"
        " transport only.",
    ),
    cfg.IntOpt(
        "auth_concurrency",
        default=16,
        min=1,
        help="Token validations in flight per worker that need Keystone; cached tokens need none. It bounds what a"
        " flood of unknown tokens can do to Keystone.",
    ),
    cfg.IntOpt(
        "auth_queue",
        default=256,
        min=0,
        help="Requests per worker that may wait for a token validation before callers get 503. Raise it if Keystone is"
        " slow and restarts empty the token cache.",
    ),
    cfg.IntOpt(
        "token_cache_bytes",
        default=33554432,
        min=1048576,
        help="Memory per worker for what is known of tokens that are in use, in bytes. One takes 30 to 200 kB, mostly"
        " its service catalog. A token that finds no room costs its requests some tenths of a millisecond, or without"
        " memcached a question to Keystone. How long a token is remembered is token_cache_time of"
        " [keystone_authtoken].",
    ),
    cfg.FloatOpt(
        "token_negative_cache_time",
        default=0,
        min=0,
        help="Seconds for which a worker refuses a token without asking Keystone again, once Keystone has not known it;"
        " 0 asks each time. A few seconds spare Keystone the clients that go on with an expired token. But a token that"
        " is refused by mistake, because a Keystone node did not have the newest keys yet, stays refused as long."
        " Without effect if token_cache_time is negative.",
    ),
    cfg.IntOpt(
        "filter_concurrency",
        default=64,
        min=1,
        help="Requests per worker that may be inside any one filter of the paste file which this server does not know."
        " Each holds a native thread for the whole request.",
    ),
    cfg.IntOpt(
        "filter_queue",
        default=256,
        min=0,
        help="Requests per worker that may wait to enter such a filter before callers get 503.",
    ),
    cfg.ListOpt(
        "stock_filters",
        default=[],
        help="Stations of the paste file that shall run as the stock implementation instead of the lean one, by kind: "
        + ", ".join(LEAN_STATIONS)
        + ", or all. Both answer alike, and the stock one costs many times the CPU: it is there for doubt. Those"
        " that are part of heat itself (faultwrap, versionnegotiation, authurl, context, noauth) are not installed"
        " here; their stock form is this server's plain rendering of them with WebOb, on which the lean form falls"
        " back.",
    ),
    cfg.IntOpt(
        "fetch_concurrency",
        default=8,
        min=1,
        help="template_url downloads in flight per worker. Each may last template_fetch_timeout and hold"
        " max_template_size bytes.",
    ),
    cfg.IntOpt(
        "helper_processes",
        default=-1,
        min=-1,
        max=99,
        help="Processes beside the workers for what would hold up a worker's other requests: templates of more than"
        " 2 kB, and large bodies and listings. Each takes about 30 MB, twice that after large templates, uses CPU only"
        " while it has such work, and stands back for the workers. -1 is one for each eight workers. More parse more"
        " large templates at once; 0 has native threads of the workers parse them, which saves the memory, but"
        " everybody else's requests then wait for up to half a second while a template of 450 kB is parsed.",
    ),
    cfg.BoolOpt(
        "access_log",
        default=True,
        help="Log one line per request. It costs some CPU and disk; a load balancer in front may already do it.",
    ),
]


def _tls_client(subject: str, inherited: bool) -> list[cfg.Opt]:
    """The TLS options of outgoing connections, once as the baseline and once per service.

    :param subject: whom the connections go to
    :param inherited: True for a per-service group, where an unset option means the value of [clients]
    """
    unset = " Unset means the value of [clients]." if inherited else ""
    return [
        cfg.StrOpt(
            "ca_file",
            help=f"PEM file of the authorities that sign certificates of {subject}. Without it the system's are used,"
            f" which trusts every public authority.{unset}",
        ),
        cfg.StrOpt("cert_file", help=f"PEM file of our certificate, if {subject} ask clients for one.{unset}"),
        cfg.StrOpt("key_file", help=f"PEM file of the private key of that certificate.{unset}"),
        cfg.BoolOpt(
            "insecure",
            default=None if inherited else False,
            help=f"Accept any certificate from {subject}. Anyone in between can then read passwords and tokens: for"
            f" tests only.{unset}",
        ),
    ]


_CLIENTS_KEYSTONE: list[cfg.Opt] = [
    *_tls_client("Keystone", inherited=True),
    cfg.URIOpt(
        "auth_uri",
        schemes=["http", "https"],
        help="Keystone's URL without a version, as instances and software deployments shall use it. It is discovered"
        " once when first needed; unset means www_authenticate_uri of [keystone_authtoken], without discovery.",
    ),
]

OPTIONS: dict[str | None, list[cfg.Opt]] = {
    None: _DEFAULT,
    "heatperf": _HEATPERF,
    "heat_api": _API,
    "eventlet_opts": _CONNECTIONS,
    "paste_deploy": _PASTE,
    "auth_password": _AUTH_PASSWORD,
    "noauth": _NOAUTH,
    "revision": _REVISION,
    "clients": _tls_client("other OpenStack services", inherited=False),
    "clients_keystone": _CLIENTS_KEYSTONE,
}


class _Shared:
    """Mixin for options that others declare too: openstack-heat, oslo.messaging.

    A filter out of openstack-heat may be loaded into this process, or the stock transport, and their modules register
    the same options with their own help texts. oslo.config refuses a second declaration only if it differs; ours never
    does from its namesake.
    """

    dest: str

    def __ne__(self, other: object) -> bool:
        return getattr(other, "dest", None) != self.dest


for _group in (*OPTIONS.values(), *messaging.OPTIONS.values()):
    for _opt in _group:
        _opt.__class__ = type(type(_opt).__name__, (_Shared, type(_opt)), {"__hash__": cfg.Opt.__hash__})


def list_opts() -> Groups:
    """Our options, and those of the password plugin in [keystone_authtoken], which no library lists.

    Entry point ``oslo.config.opts: heatperf``; the sample generator calls it.
    """
    groups: Groups = [(group, copy.deepcopy(opts)) for group, opts in OPTIONS.items()]
    groups.append((AUTHTOKEN, loading.get_auth_plugin_conf_options("password")))
    return groups


def library_opts() -> Groups:
    """Options of the OpenStack libraries that a start of this server reads.

    Call :func:`heatperf.config.load.set_library_defaults` first, as it changes defaults in place. For oslo.messaging
    these are our own declarations, see :mod:`heatperf.config.messaging`.
    """
    groups: Groups = list(messaging.OPTIONS.items())
    for listing in (
        policy_opts.list_opts,
        middleware_opts.list_opts_cors,
        middleware_opts.list_opts_http_proxy_to_wsgi,
        middleware_opts.list_opts_healthcheck,
        middleware_opts.list_opts_sizelimit,
        keystone_opts.list_auth_token_opts,
        profiler_opts.list_opts,
        reports_opts.list_opts,
        concurrency_opts.list_opts,
    ):
        groups.extend((group, list(opts)) for group, opts in listing())
    return groups


def register_logging(conf: cfg.ConfigOpts) -> None:
    """Register oslo.log's options; must happen before parsing, as some are command line flags."""
    log.register_options(conf)
    conf.register_opts(log_options.versionutils.deprecated_opts)


def register(conf: cfg.ConfigOpts) -> None:
    """Register every option but those of oslo.log and of the Keystone plugin (whose name the files decide)."""
    for group, opts in (*OPTIONS.items(), *library_opts()):
        conf.register_opts(opts, group=None if group == "DEFAULT" else group)


def registered(conf: cfg.ConfigOpts) -> list[tuple[str | None, cfg.Opt]]:
    """All options that ``conf`` knows, [DEFAULT] first, then by group and name; None stands for [DEFAULT].

    oslo.config offers no public way from a registered name to its Opt, which knows secrecy, type and deprecated names.
    """
    found: list[tuple[str | None, cfg.Opt]] = [(None, info["opt"]) for info in conf._opts.values()]
    for name, group in conf._groups.items():
        found.extend((name, info["opt"]) for info in group._opts.values())
    # These are instructions for parsing, which no file can set.
    parsing = ("config_file", "config_dir", "config_source", "shell_completion")
    found = [(group, opt) for group, opt in found if group or opt.dest not in parsing]
    return sorted(found, key=lambda pair: (pair[0] or "", pair[1].dest))
