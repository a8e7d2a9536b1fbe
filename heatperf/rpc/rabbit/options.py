"""transport_url and the options of oslo.messaging, read as its rabbit driver reads them.

In: a validated ConfigOpts. Out: RabbitSettings. Raised: Unsupported for what only the stock driver can do;
ConfigurationError for files of TLS that cannot be used. Runs in the zygote, before the fork; connects to nothing.

Facts: oslo.messaging 18.3, impl_rabbit.py and amqpdriver.py; kombu 5.7, transport/pyamqp.py; py-amqp 5.4, transport.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from oslo_concurrency import lockutils

from heatperf.config import messaging, transport_url
from heatperf.errors import ConfigurationError
from heatperf.rpc import envelope
from heatperf.rpc.rabbit.hosts import Host, Pace
from heatperf.rpc.rabbit.settings import RabbitSettings, random_reply_queue

LOG = logging.getLogger(__name__)

DEFAULT_PORT = 5672
# What kombu logs in with where the URL names nobody.
_NOBODY = "guest"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the place that oslo.messaging has chosen

# RabbitMQ offers AMQPLAIN and PLAIN by default; a broker set up for PLAIN alone is no reason to stay away.
_MECHANISMS = {"AMQPLAIN": ("AMQPLAIN", "PLAIN"), "PLAIN": ("PLAIN",), "EXTERNAL": ("EXTERNAL",)}

# The names of ssl_version that this OpenSSL knows, as the constants of the ssl module.
_PROTOCOLS = {
    name: getattr(ssl, constant)
    for name, constant in (
        ("tlsv1", "PROTOCOL_TLSv1"),
        ("sslv23", "PROTOCOL_SSLv23"),
        ("sslv2", "PROTOCOL_SSLv2"),
        ("sslv3", "PROTOCOL_SSLv3"),
        ("tlsv1_1", "PROTOCOL_TLSv1_1"),
        ("tlsv1_2", "PROTOCOL_TLSv1_2"),
    )
    if hasattr(ssl, constant)
}


class Unsupported(Exception):
    """Only stock oslo.messaging can do what is configured.

    :ivar option: as ``[group] name``
    :ivar reason: what it is, without any secret
    """

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"{option}: {reason}")
        self.option = option
        self.reason = reason


class _Options:
    """[oslo_messaging_rabbit], with what the query of the URL overrides."""

    def __init__(self, conf: Any, query: dict[str, str]) -> None:
        self._group = conf[messaging.RABBIT]
        self._query = query
        self._types = {opt.dest: opt.type for opt in messaging.OPTIONS[messaging.RABBIT]}

    def __getattr__(self, name: str) -> Any:
        text = self._query.get(name)
        return self._group[name] if text is None else self._types[name](text)


def read(conf: Any) -> RabbitSettings:
    """What this transport is to do.

    :raises Unsupported: it cannot
    :raises ConfigurationError: a file of TLS cannot be used, or options contradict each other
    """
    url = transport_url.parse(conf.transport_url)
    options = _Options(conf, url.query)
    _check(conf, url, options)
    return RabbitSettings(
        hosts=tuple(
            Host(host.name or "localhost", host.port or DEFAULT_PORT, host.user or _NOBODY, host.password or _NOBODY)
            for host in url.hosts
        ),
        # oslo.messaging writes the name into another URL as it is, which kombu reads: it is decoded twice.
        vhost=unquote(url.vhost or "") or "/",
        control_exchange=conf.control_exchange,
        durable=options.amqp_durable_queues or options.rabbit_quorum_queue,
        auto_delete=options.amqp_auto_delete,
        name_reply_queue=_numbered(options) if options.use_queue_manager else random_reply_queue,
        reply_durable=options.rabbit_transient_quorum_queue,
        reply_arguments=_reply_arguments(options),
        consumer_arguments={"x-cancel-on-ha-failover": True} if options.enable_cancel_on_failover else {},
        prefetch=max(options.rabbit_qos_prefetch_count, 0),
        compression=options.kombu_compression or None,
        heartbeat=max(options.heartbeat_timeout_threshold, 0),
        mechanisms=_MECHANISMS[options.rabbit_login_method],
        pace=Pace(
            options.rabbit_retry_interval,
            options.rabbit_retry_backoff,
            options.rabbit_interval_max,
            options.kombu_reconnect_splay,
            options.kombu_reconnect_delay,
        ),
        shuffle=options.kombu_failover_strategy == "shuffle",
        tls=_tls(options) if options.ssl else None,
        response_timeout=conf.rpc_response_timeout,
        connect_deadline=conf.heatperf.rpc_connect_deadline,
        engine_grace=conf.heatperf.rpc_engine_grace,
        most_under_way=conf.heatperf.rpc_concurrency + conf.heatperf.rpc_queue,
    )


def _check(conf: Any, url: transport_url.TransportUrl, options: _Options) -> None:
    rabbit = f"[{messaging.RABBIT}] "
    if url.driver != "rabbit":
        raise Unsupported("[DEFAULT] transport_url", f"the driver is {url.driver}, not rabbit")
    if not url.hosts:
        raise Unsupported("[DEFAULT] transport_url", "it names no host")
    if conf[messaging.METRICS].metrics_enabled:
        raise Unsupported(f"[{messaging.METRICS}] metrics_enabled", "oslo.messaging itself counts its messages")
    if conf[messaging.TRACING].tracing_enabled:
        raise Unsupported(f"[{messaging.TRACING}] tracing_enabled", "oslo.messaging itself traces its messages")
    if options.rabbit_login_method not in _MECHANISMS:
        raise Unsupported(rabbit + "rabbit_login_method", f"a login by {options.rabbit_login_method}")
    if options.kombu_compression and options.kombu_compression not in envelope.COMPRESSIONS:
        raise Unsupported(rabbit + "kombu_compression", f"a compression by {options.kombu_compression}")
    if options.ssl and options.ssl_version and options.ssl_version.lower() not in _PROTOCOLS:
        raise Unsupported(rabbit + "ssl_version", f"the protocol {options.ssl_version}")
    # config/validate.py refuses these where the file says so; here they come from the query of the URL.
    if options.use_queue_manager and not conf.oslo_concurrency.lock_path:
        raise ConfigurationError(
            "the queue manager locks a file in [oslo_concurrency] lock_path, which is not set",
            remedy="set lock_path to a directory that the service user may write",
            option=rabbit + "use_queue_manager",
        )
    if options.rabbit_ha_queues and (options.rabbit_quorum_queue or options.rabbit_transient_quorum_queue):
        raise ConfigurationError(
            "mirrored queues and quorum queues exclude each other",
            remedy="remove rabbit_ha_queues",
            option=rabbit + "rabbit_ha_queues",
        )


def _reply_arguments(options: _Options) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if options.rabbit_ha_queues:
        arguments["x-ha-policy"] = "all"
    if options.rabbit_transient_quorum_queue:
        arguments["x-queue-type"] = "quorum"
        for name, limit in (
            ("x-delivery-limit", options.rabbit_quorum_delivery_limit),
            ("x-max-in-memory-length", options.rabbit_quorum_max_memory_length),
            ("x-max-in-memory-bytes", options.rabbit_quorum_max_memory_bytes),
        ):
            if limit:
                arguments[name] = limit
    if options.rabbit_transient_queues_ttl > 0:
        arguments["x-expires"] = options.rabbit_transient_queues_ttl * 1000
    return arguments


# TLS


def _tls(options: _Options) -> ssl.SSLContext:
    """As py-amqp makes it of what the driver hands it."""
    version = _PROTOCOLS[options.ssl_version.lower()] if options.ssl_version else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(version)
    try:
        if options.ssl_cert_file:
            context.load_cert_chain(options.ssl_cert_file, options.ssl_key_file or None, _no_passphrase)
        if options.ssl_ca_file:
            context.load_verify_locations(options.ssl_ca_file)
    except (OSError, ValueError) as error:
        raise _unusable(options, error) from None
    if options.ssl_ca_file:
        # Each host must have its own name in its certificate; the stock driver, given several, asks for the first's.
        context.check_hostname = True
        context.verify_mode = ssl.CERT_REQUIRED
        return context
    context.check_hostname = False
    if context.verify_mode == ssl.CERT_NONE:
        how = "any certificate is accepted, as ssl_version is set"
    else:
        context.load_default_certs()
        how = "a certificate of any public authority is accepted, for whichever host"
    LOG.warning("[%s] ssl_ca_file is not set, so the broker's name is not verified: %s", messaging.RABBIT, how)
    return context


def _no_passphrase() -> str:
    """Instead of OpenSSL, which would ask whoever starts the server for it, at a terminal nobody may look at."""
    raise ValueError("the key is protected by a passphrase, which nobody is there to type")


def _unusable(options: _Options, error: Exception) -> ConfigurationError:
    for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
        path = getattr(options, name)
        if path:
            try:
                with open(path, "rb"):
                    pass
            except OSError as refusal:
                return ConfigurationError(
                    f"{path}: {refusal.strerror}",
                    remedy="let the service user read the file",
                    option=f"[{messaging.RABBIT}] {name}",
                )
    return ConfigurationError(
        f"the files for TLS with the broker cannot be used: {getattr(error, 'reason', None) or error}",
        remedy="check them with openssl x509 and openssl pkey",
        option=f"[{messaging.RABBIT}] ssl_cert_file" if options.ssl_cert_file else f"[{messaging.RABBIT}] ssl_ca_file",
    )


# Numbered reply queues


def _numbered(options: _Options) -> Callable[[], str]:
    """The names of use_queue_manager, out of the counter that all processes of this host and name share."""
    owner = f"{options.hostname}:{options.processname}"
    counter = f"{_SHARED_MEMORY}/{options.hostname}_{options.processname}_qmanager"
    lock = f"oslo_read_shm_{options.hostname}_{options.processname}"

    def name() -> str:
        with lockutils.lock(lock, external=True):
            return f"reply_{owner}:{_next(counter)}"

    return name


def _next(path: str) -> int:
    """Count on; a service that was started anew (another process group, or the same number later) begins with 1."""
    group = os.getpgrp()
    count = started = 0
    # Where the first process of the group has ended, oslo.messaging fails. The others go on with their numbers.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{group or os.getpid()}/stat") as stat:
        # The name of a process may hold spaces. oslo.messaging splits all the same, and so must we.
        started = int(stat.read().split()[21])
    with contextlib.suppress(FileNotFoundError, ValueError), open(path) as file:
        last_group, last, last_started = (int(part) for part in file.readline().split(":"))
        if last_group == group and started in (0, last_started):
            count, started = last, last_started
    count += 1
    with open(path, "w") as file:
        file.write(f"{group}:{count}:{started}")
    return count
