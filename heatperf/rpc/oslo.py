"""Transport over stock oslo.messaging, any of its drivers.

A call blocks inside oslo.messaging, so it runs in a native thread of the pool "rpc" while its greenlet is parked; the
pool bounds how many calls one worker has under way. The transport object is made before the fork, which checks the
URL and loads the driver; connections are made by the first call, which is after it.
"""

import logging
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import common as driver_common
from oslo_serialization import jsonutils

from heatperf.context import RequestContext
from heatperf.errors import ConfigurationError, DeadlineExceeded, heat
from heatperf.rpc import nesting, remote
from heatperf.rpc.methods import BASE_VERSION, TOPIC

LOG = logging.getLogger(__name__)


class _ByName(list[str]):
    """The ``allowed_remote_exmods`` of our transport; marks failures that are ours to rebuild."""


def _rebuild_by_name() -> None:
    """Have oslo.messaging rebuild the failures of our transport through rpc/remote.py.

    oslo.messaging imports the module a reply names, and offers no hook to do otherwise. Its one decoding function is
    wrapped here; replies of any other transport in the process (notifiers of filters) pass through untouched.
    """
    stock = driver_common.deserialize_remote_exception
    if getattr(stock, "heatperf", False):
        return

    def deserialize_remote_exception(data: Any, allowed_remote_exmods: list[str]) -> Exception:
        if isinstance(allowed_remote_exmods, _ByName):
            return remote.rebuild(jsonutils.loads(str(data)))
        return stock(data, allowed_remote_exmods)

    deserialize_remote_exception.heatperf = True  # type: ignore[attr-defined]
    driver_common.deserialize_remote_exception = deserialize_remote_exception


class OsloTransport:
    """RPC over oslo.messaging.

    :param conf: parsed configuration (must be oslo.config's global one: oslo.messaging 18 reads options from it)
    :raises ConfigurationError: transport_url is malformed or names a driver that is not installed
    """

    #: Seconds on top of the reply deadline that a call may spend publishing before its greenlet gives up on it. The
    #: stock driver retries a broken connection for ever; the client must not wait as long.
    PUBLISH_GRACE = 5.0

    def __init__(self, conf: Any) -> None:
        _rebuild_by_name()
        # for whoever in this process has a configuration of its own; ours has its own declaration of the option
        oslo_messaging.set_transport_defaults("heat")
        self._conf = conf
        try:
            ours = _ByName([remote.HEAT_MODULE])
            self._transport = oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=ours)
        except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
            # the exception's own text may quote the URL, password included
            raise ConfigurationError(
                f"the message transport cannot be set up: {type(error).__name__}",
                remedy="write transport_url as driver://user:password@host:port/vhost, for example "
                "rabbit://heat:PASSWORD@broker:5672/",
                option="[DEFAULT] transport_url",
            ) from None
        self._client = oslo_messaging.get_rpc_client(
            self._transport, oslo_messaging.Target(topic=TOPIC, version=BASE_VERSION)
        )
        self._pool: Any = None

    def start(self, loop: Any) -> None:
        settings = self._conf.heatperf
        self._pool = loop.pool("rpc", settings.rpc_concurrency, settings.rpc_queue)

    def stop(self) -> None:
        """Nothing to release: the loop stops the pool, and connections end with the worker."""

    def call(
        self, context: RequestContext, method: str, arguments: dict[str, Any], version: str, timeout: float | None
    ) -> Any:
        nesting.check(arguments)
        if timeout is None:
            timeout = self._conf.rpc_response_timeout
        client = self._client.prepare(version=version, timeout=timeout)
        deadline = timeout + self.PUBLISH_GRACE
        try:
            return self._pool.run_within(deadline, client.call, context.to_rpc(), method, **arguments)
        except (oslo_messaging.MessagingTimeout, DeadlineExceeded):
            LOG.error("No engine answered %s within %s s", method, timeout)
            raise heat.MessagingTimeout(f"Timed out waiting for a reply to {method}") from None

    def cast(self, context: RequestContext, method: str, arguments: dict[str, Any], version: str) -> None:
        nesting.check(arguments)
        self._pool.run(self._client.prepare(version=version).cast, context.to_rpc(), method, **arguments)
