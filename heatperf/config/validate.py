"""Every registered option is read once; certificates, broker URLs, what memcached needs and contradictions are tried
before anything starts.

In: a parsed ConfigOpts and the assignments of its files. Out: ConfigurationErrors with file:line, option and remedy,
never with the value of a secret option. Runs in the zygote before any fork.
"""

import difflib
import importlib
import importlib.metadata
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from oslo_config import cfg, types
from oslo_log import versionutils

from heatperf.config import files, options, transport_url
from heatperf.config.masking import is_secret, mask_urls
from heatperf.config.messaging import RABBIT
from heatperf.errors import ConfigurationError

OWN_GROUP = "heatperf"
SHORTEST_WATCHDOG = 5.0
URL_FORM = "rabbit://user:password@host:5672/vhost"
# Flavors of the packaged paste file that never ask the authtoken filter, so that its options may be anything.
WITHOUT_AUTHTOKEN = ("standalone", "custombackend", "noauth")


def problems(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """Everything for which a start is refused, one by one."""
    yield from _unknown_own(settings)
    unreadable = False
    for group, opt in options.registered(conf):
        try:
            read(conf, settings, group, opt)
        except ConfigurationError as error:
            unreadable = True
            yield error
    for attempt in (_tls, _watchdog, _transport_of_rpc, _transport_of_notifications, _rabbit, _memcached):
        try:
            yield from attempt(conf, settings)
        except ConfigurationError as error:
            yield error
        except (cfg.Error, ValueError):
            # Builds on an option that cannot be read, which was said above.
            if not unreadable:
                raise


def label(group: str | None, name: str) -> str:
    """The way this project names an option: ``[group] name``."""
    return f"[{group or 'DEFAULT'}] {name}"


def refusal(
    settings: Sequence[files.Setting], group: str | None, opt: cfg.Opt, message: str, remedy: str | None = None
) -> ConfigurationError:
    """A ConfigurationError about one option that points at the line which sets it, if one does."""
    setting = files.find(settings, group, opt)
    written = label(setting.group, setting.name) if setting else label(group, opt.dest)
    return ConfigurationError(message, remedy=remedy, file=setting.where if setting else None, option=written)


def _named(conf: cfg.ConfigOpts, group: str | None, name: str) -> cfg.Opt:
    return next(opt for known, opt in options.registered(conf) if known == group and opt.dest == name)


def expected(kind: Any) -> str:
    """What an option's type accepts, in words."""
    if isinstance(kind, types.Number):
        words = "a whole number" if isinstance(kind, types.Integer) else "a number"
        if kind.min is not None and kind.max is not None:
            return f"{words} from {kind.min} to {kind.max}"
        if kind.min is not None:
            return f"{words}, {kind.min} or more"
        return f"{words}, {kind.max} or less" if kind.max is not None else words
    if isinstance(kind, types.Boolean):
        return "true or false"
    if isinstance(kind, types.List):
        return f"a comma separated list, each item {expected(kind.item_type)}"
    if isinstance(kind, types.Dict):
        return "a comma separated list of key:value pairs"
    if isinstance(kind, types.URI):
        return "a URL starting with " + " or ".join(f"{scheme}://" for scheme in kind.schemes or ["a scheme"])
    if isinstance(kind, types.HostAddress | types.IPAddress):
        return "an address or host name"
    if getattr(kind, "choices", None):
        return "one of " + ", ".join(repr(choice) for choice in kind.choices)
    return "such a value"


def read(conf: cfg.ConfigOpts, settings: Sequence[files.Setting], group: str | None, opt: cfg.Opt) -> Any:
    """The value of an option.

    :raises ConfigurationError: it cannot be converted, is out of range, or names an unknown $variable
    """
    try:
        value = conf[opt.dest] if group is None else conf[group][opt.dest]
    except (cfg.TemplateSubstitutionError, cfg.NoSuchOptError, cfg.NoSuchGroupError):
        raise refusal(
            settings, group, opt, "the value holds a $name that is no option", "write $$ for a literal dollar sign"
        ) from None
    except ValueError:
        raise _wrong_value(settings, group, opt) from None
    except versionutils.DeprecatedConfig:
        raise refusal(
            settings,
            group,
            opt,
            "is deprecated, and fatal_deprecations is set",
            "config check names the present option",
        ) from None
    # To oslo.config "workers =" is a number that is None, which would surface as a TypeError somewhere later.
    if value is None and opt.default is not None and isinstance(opt.type, types.Number):
        raise _wrong_value(settings, group, opt)
    return value


def _wrong_value(settings: Sequence[files.Setting], group: str | None, opt: cfg.Opt) -> ConfigurationError:
    setting = files.find(settings, group, opt)
    variable = files.variable(group, opt)
    # oslo.config prefers the environment to files.
    value = os.environ.get(variable, setting.value if setting else None)
    want = expected(opt.type)
    shown = "the value" if value is None or is_secret(opt) else repr(mask_urls(value))
    message = f"{shown} is not {want}"
    if variable in os.environ:
        return ConfigurationError(
            message, remedy=f"correct the environment variable {variable}", option=label(group, opt.dest)
        )
    return refusal(settings, group, opt, message, "correct the value or remove the line for the default")


def flags(
    conf: cfg.ConfigOpts, settings: Sequence[files.Setting], unknown: str | None = None
) -> Iterator[ConfigurationError]:
    """Wrong values that files give to options of the command line; these stop oslo.config's parser already.

    :param unknown: what oslo.config missed when it replaced the $names in them
    """
    for opt, _ in conf._all_cli_opts():
        setting = files.find(settings, None, opt)
        if setting is None:
            continue
        if unknown and (f"${unknown}" in setting.value or f"${{{unknown}}}" in setting.value):
            message = f"refers to ${unknown}, which is no option that can be referred to here"
            yield refusal(settings, None, opt, message, "write the value out, or $$ for a literal dollar sign")
        try:
            opt.type(setting.value)
        except ValueError:
            yield _wrong_value(settings, None, opt)


def close_match(name: str, known: Sequence[str], cutoff: float = 0.75) -> str | None:
    """The known name that somebody probably meant, or None."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return found[0] if found else None


def _unknown_own(settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """Only our own group is strict: heat.conf is shared with heat-engine, whose options we do not know."""
    known = [opt.dest for opt in options.OPTIONS[OWN_GROUP]]
    for setting in settings:
        if setting.group.lower() == OWN_GROUP and setting.name not in known:
            meant = close_match(setting.name, known, cutoff=0.6)
            yield ConfigurationError(
                "there is no such option",
                remedy=f"did you mean {meant}?" if meant else "known are " + ", ".join(known),
                file=setting.where,
                option=label(OWN_GROUP, setting.name),
            )


def _no_passphrase() -> str:
    raise ValueError("a passphrase")


def _tls(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """TLS that was asked for is served, or the start is refused."""
    paths = {"cert_file": conf.heat_api.cert_file, "key_file": conf.heat_api.key_file}
    if any(paths.values()):
        _load_pair(conf, settings, paths)
    yield from ()


def _load_pair(conf: cfg.ConfigOpts, settings: Sequence[files.Setting], paths: dict[str, Any]) -> None:
    """Load the certificate as the server will."""
    for name, path in paths.items():
        opt = _named(conf, "heat_api", name)
        if not path:
            raise refusal(
                settings,
                "heat_api",
                opt,
                f"TLS needs cert_file and key_file, but {name} is not set",
                "set both, or neither for plain HTTP",
            )
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise refusal(
                settings, "heat_api", opt, f"{path}: {error.strerror}", "let the service user read the file"
            ) from None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            paths["cert_file"], paths["key_file"], password=_no_passphrase
        )
    except ValueError:
        raise refusal(
            settings,
            "heat_api",
            _named(conf, "heat_api", "key_file"),
            f"{paths['key_file']} is protected by a passphrase",
            "store the key without one, readable only for the service user",
        ) from None
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        if mismatch:
            message = f"{paths['key_file']} is not the private key of {paths['cert_file']}"
        else:
            message = f"{paths['cert_file']} and {paths['key_file']} are no PEM certificate and key: {error.reason}"
        raise refusal(
            settings,
            "heat_api",
            _named(conf, "heat_api", "key_file" if mismatch else "cert_file"),
            message,
            "check them with openssl x509 and openssl pkey",
        ) from None


def _watchdog(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """A worker beats twice a second and is looked at once a second: in less than this a busy machine looks stuck."""
    if 0 < conf.heatperf.watchdog_timeout < SHORTEST_WATCHDOG:
        yield refusal(
            settings,
            "heatperf",
            _named(conf, "heatperf", "watchdog_timeout"),
            f"{conf.heatperf.watchdog_timeout:g} seconds are too short to tell a busy worker from one that hangs",
            f"give at least {SHORTEST_WATCHDOG:g}, or 0 for no watchdog",
        )


def _transport_of_rpc(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    location = conf.get_location("transport_url")
    # That it is not set is refused by whoever needs it, which development mode does not.
    if location is not None and location.location is not cfg.Locations.opt_default:
        _transport(conf, settings, None, conf.transport_url)
    yield from ()


def _transport_of_notifications(
    conf: cfg.ConfigOpts, settings: Sequence[files.Setting]
) -> Iterator[ConfigurationError]:
    url = conf.oslo_messaging_notifications.transport_url
    if url:
        _transport(conf, settings, "oslo_messaging_notifications", url)
    yield from ()


def _transport(conf: cfg.ConfigOpts, settings: Sequence[files.Setting], group: str | None, url: str) -> None:
    """Parse a broker URL with oslo.messaging's own grammar and look for its driver; no connection is made."""
    opt = _named(conf, group, "transport_url")
    remedy = f"write it as {URL_FORM} and percent-encode special characters of the password"
    scheme, slashes, _ = url.partition("://")
    # To oslo.messaging "rabbit:/heat@host/" names no host, and the driver then takes guest on this very machine.
    if not slashes or not scheme.strip():
        raise refusal(settings, group, opt, "the broker URL is malformed: there is no driver:// in front", remedy)
    try:
        parsed = transport_url.parse(url)
    except ValueError as error:
        # The text of the error may quote the URL, password included.
        cause = "its port is no number" if "int()" in str(error) else "oslo.messaging cannot take it apart"
        raise refusal(settings, group, opt, f"the broker URL is malformed: {cause}", remedy) from None
    drivers = sorted(entry.name for entry in importlib.metadata.entry_points(group="oslo.messaging.drivers"))
    if parsed.driver.split("+")[0] not in drivers:
        raise refusal(
            settings,
            group,
            opt,
            f"there is no messaging driver {parsed.driver!r}",
            "the URL starts with one of " + ", ".join(f"{driver}://" for driver in drivers),
        )
    driver, _, inner = parsed.driver.partition("+")
    if driver in ("rabbit", "kombu"):
        # Kombu's own transports (kombu+memory) need none; of these the stock driver goes to guest on this machine.
        needs_host = inner in ("", "amqp", "pyamqp", "amqps")
        if needs_host and not (parsed.hosts and all((host.name or "").strip() for host in parsed.hosts)):
            raise refusal(settings, group, opt, "the broker URL names no host", remedy)
        _query(conf, settings, group, opt, parsed.query)


def _query(
    conf: cfg.ConfigOpts, settings: Sequence[files.Setting], group: str | None, opt: cfg.Opt, query: dict[str, str]
) -> None:
    """Options of [oslo_messaging_rabbit] may ride in the URL; the driver refuses unknown ones at its first use."""
    known = {known.dest: known for name, known in options.registered(conf) if name == RABBIT}
    for name, value in query.items():
        if name not in known:
            meant = close_match(name, list(known))
            raise refusal(
                settings,
                group,
                opt,
                f"the broker URL sets {name!r}, which is no option of [{RABBIT}]",
                f"did you mean {meant}?" if meant else "remove it from the URL",
            )
        try:
            known[name].type(value)
        except ValueError:
            raise refusal(
                settings, group, opt, f"{name} in the broker URL is not {expected(known[name].type)}", "correct it"
            ) from None


def _rabbit(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """Combinations that the stock driver refuses, but only while it serves the first request."""
    rabbit = conf[RABBIT]
    contradictions = (
        (
            rabbit.rabbit_quorum_queue and rabbit.rabbit_ha_queues,
            "rabbit_ha_queues",
            "mirrored queues and quorum queues exclude each other",
            "remove rabbit_ha_queues",
        ),
        (
            rabbit.rabbit_transient_quorum_queue and rabbit.rabbit_ha_queues,
            "rabbit_ha_queues",
            "mirrored queues and quorum queues for replies exclude each other",
            "remove rabbit_ha_queues",
        ),
        (
            rabbit.rabbit_stream_fanout and rabbit.rabbit_qos_prefetch_count <= 0,
            "rabbit_stream_fanout",
            "streams need rabbit_qos_prefetch_count above 0",
            "set rabbit_qos_prefetch_count as on the engines",
        ),
        (
            rabbit.rabbit_stream_fanout and not rabbit.rabbit_transient_quorum_queue,
            "rabbit_stream_fanout",
            "streams need rabbit_transient_quorum_queue",
            "set rabbit_transient_quorum_queue = true as on the engines",
        ),
        (
            rabbit.rpc_conn_pool_size < rabbit.conn_pool_min_size,
            "rpc_conn_pool_size",
            f"the pool cannot be smaller than conn_pool_min_size ({rabbit.conn_pool_min_size})",
            "raise it",
        ),
        (
            rabbit.use_queue_manager and not conf.oslo_concurrency.lock_path,
            "use_queue_manager",
            "the queue manager locks a file in [oslo_concurrency] lock_path, which is not set",
            "set lock_path to a directory that the service user may write",
        ),
    )
    for wrong, name, message, remedy in contradictions:
        if wrong:
            yield refusal(settings, RABBIT, _named(conf, RABBIT, name), message, remedy)


def _memcached(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> Iterator[ConfigurationError]:
    """What keystonemiddleware and oslo.cache would miss while they serve the first token."""
    if conf.paste_deploy.flavor in WITHOUT_AUTHTOKEN:
        return
    cache = conf[options.AUTHTOKEN]
    strategy = (cache.memcache_security_strategy or "None").upper()
    if strategy != "NONE" and not cache.memcache_secret_key:
        yield refusal(
            settings,
            options.AUTHTOKEN,
            _named(conf, options.AUTHTOKEN, "memcache_secret_key"),
            f"is not set, but memcache_security_strategy = {strategy} needs it",
            "set the same long random text on every node, or remove memcache_security_strategy",
        )
    if not cache.memcached_servers:
        return
    for name, module, package in _memcached_needs(cache, strategy):
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield refusal(
                settings,
                options.AUTHTOKEN,
                _named(conf, options.AUTHTOKEN, name),
                f"needs the Python module {module.split('.')[0]}, which cannot be imported: {error}",
                f"pip install {package}, or remove the line",
            )


def _memcached_needs(cache: Any, strategy: str) -> Iterator[tuple[str, str, str]]:
    """Option that needs it, module, and name of the package that holds it."""
    binary = "memcache_sasl_enabled" if cache.memcache_sasl_enabled else ""
    if cache.memcache_use_advanced_pool and cache.memcache_tls_enabled:
        binary = binary or "memcache_tls_enabled"
    # oslo.cache's pool of the binary client is derived from that of the plain one, so it needs both.
    if cache.memcache_use_advanced_pool or not binary:
        yield "memcached_servers", "memcache", "python-memcached"
    if binary:
        yield binary, "bmemcached", "python-binary-memcached"
    if strategy == "ENCRYPT":
        yield "memcache_security_strategy", "cryptography.hazmat.primitives.ciphers", "cryptography"
