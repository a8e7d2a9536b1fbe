"""Build the worker's application: messaging, policy, pipeline, tracing, in heat-api's order of start.

In: the parsed configuration. Out: a Pipeline (see deploy.py). Raised: ConfigurationError. Runs in the zygote,
before the fork; nothing connects to anything until a worker starts its parts.
"""

import logging
from collections.abc import Sequence
from typing import Any

from osprofiler import initializer, web

from heatperf.context import admin_context
from heatperf.errors import ConfigurationError
from heatperf.helper.client import Helpers
from heatperf.pipeline.deploy import Pipeline, load_paste_app
from heatperf.pipeline.loopback import LoopbackOnly
from heatperf.pipeline.parts import Parts
from heatperf.policy.enforcer import Policy
from heatperf.rpc.absent import AbsentTransport
from heatperf.rpc.client import EngineClient, Transport
from heatperf.rpc.local import LocalTransport
from heatperf.rpc.rabbit import options as rabbit_options
from heatperf.rpc.rabbit.transport import RabbitTransport

LOG = logging.getLogger(__name__)

NO_ENGINE = (
    "This server has no engine. Start it in development mode, or with a configuration whose transport_url leads to a "
    "heat-engine."
)


def build(
    conf: Any, engine: str, development: bool = False, socket: str | None = None, helpers: Sequence[str] = ()
) -> Pipeline:
    """Return the application that workers serve.

    :param engine: ``rpc`` for the engines behind transport_url, ``embedded`` for the one that the supervisor started,
        ``none`` for a server without one
    :param development: read no file but those that were named, let nobody in but this machine's own programs and
        pages, fetch no template from private networks, and take every caller for an administrator of the project in
        the path
    :param socket: of the embedded engine
    :param helpers: sockets of the helper processes
    :raises ConfigurationError: transport, policy or paste file cannot be used
    """
    transport = _transport(conf, engine, socket)
    policy = Policy(conf)
    parts = Parts(conf, policy, EngineClient(transport), development)
    if helpers:
        parts.helpers = Helpers(helpers)
    parts.startables.append(Tracing(conf))
    pipeline = load_paste_app(parts)
    if development:
        pipeline.wsgi = LoopbackOnly(pipeline.wsgi, conf)
    return pipeline


def _transport(conf: Any, engine: str, socket: str | None) -> Transport:
    if engine == "embedded":
        if socket is None:
            raise ValueError("the embedded engine is reached by its socket")
        return LocalTransport(socket, conf.rpc_response_timeout)
    if engine == "none":
        return AbsentTransport(NO_ENGINE)
    if conf.get_location("transport_url").location.name == "opt_default":
        raise ConfigurationError(
            "it is not set, and guessing a broker on this machine would hide the mistake",
            remedy="set transport_url = rabbit://USER:PASSWORD@HOST:5672/VHOST, the same as heat-engine's",
            option="[DEFAULT] transport_url",
        )
    choice = conf.heatperf.rpc_transport
    if choice != "oslo":
        try:
            return RabbitTransport(rabbit_options.read(conf))
        except rabbit_options.Unsupported as reason:
            if choice == "lean":
                raise ConfigurationError(
                    f"the lean RPC transport cannot do what is configured: {reason.reason}",
                    remedy="change it, or set [heatperf] rpc_transport = auto for stock oslo.messaging",
                    option=reason.option,
                ) from None
            LOG.warning("RPC goes over stock oslo.messaging, not the lean transport, because of %s", reason)
    from heatperf.rpc.oslo import OsloTransport  # loads oslo.messaging, its drivers and eventlet

    return OsloTransport(conf)


class Tracing:
    """osprofiler in a worker. Its collector may connect at once, so each worker makes its own, after the fork."""

    def __init__(self, conf: Any) -> None:
        self._conf = conf
        if conf.profiler.enabled:
            LOG.warning("Tracing is on: who knows one of [profiler] hmac_keys can have a request traced")
        else:
            web.disable()

    def start(self, _loop: Any) -> None:
        """Connect to the collector of [profiler] connection_string, if tracing is on."""
        conf = self._conf
        if conf.profiler.enabled:
            initializer.init_from_conf(
                conf=conf, context=admin_context().to_dict(), project="heat", service=conf.prog, host=conf.host
            )
