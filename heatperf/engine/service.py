"""The engine: one object that answers every method of the RPC contract.

Comes in: a context, a method's name, its arguments, the version the caller wants. Goes out: what upstream's engine
answers, as data that JSON can hold. Raises: errors.heat classes for what callers may know; TypeError, ValueError and
the like travel under their own names, as upstream's do. dispatch() may be called from any number of threads.
"""

import datetime
import logging
import pathlib
import socket
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from heatperf.engine import limits, recovery
from heatperf.engine.caller import Caller
from heatperf.engine.catalogue import CatalogueCalls
from heatperf.engine.core import Core, Settings
from heatperf.engine.resource_calls import ResourceCalls
from heatperf.engine.software import SoftwareCalls
from heatperf.engine.stack_calls import StackCalls
from heatperf.engine.store import Store, StoreUnwritable, utcnow
from heatperf.errors import heat

LOG = logging.getLogger(__name__)

#: The contract's version here; upstream's since Stein.
RPC_API_VERSION = (1, 36)

#: Seconds between two reports of a real engine; it shows in the list of services.
_REPORT_INTERVAL = 60

_REMOTE_TIME = "%Y-%m-%dT%H:%M:%S.%f"

#: Methods by the object that has them. Spelled out, so that no message reaches anything else.
_STACKS = (
    "identify_stack list_stacks count_stacks show_stack preview_stack create_stack update_stack preview_update_stack "
    "validate_template get_template get_environment get_files delete_stack abandon_stack export_stack list_outputs "
    "show_output stack_suspend stack_resume stack_check stack_cancel_update stack_snapshot show_snapshot "
    "delete_snapshot stack_list_snapshots stack_restore migrate_convergence_1"
)
_RESOURCES = (
    "list_stack_resources describe_stack_resource describe_stack_resources find_physical_resource resource_signal "
    "resource_mark_unhealthy list_events"
)
_CATALOGUE = "list_resource_types resource_schema generate_template list_template_versions list_template_functions"
_SOFTWARE = (
    "list_software_configs show_software_config create_software_config delete_software_config "
    "list_software_deployments metadata_software_deployments show_software_deployment create_software_deployment "
    "update_software_deployment delete_software_deployment check_software_deployment signal_software_deployment"
)
_ENGINE = "get_revision list_services authenticated_to_backend"


class NoSuchMethod(Exception):
    """A caller asked for a method that the contract does not have; named as oslo.messaging names it."""

    def __init__(self, method: str) -> None:
        super().__init__(f"Endpoint does not support RPC method {method}")


class UnsupportedVersion(Exception):
    """A caller wants a newer contract than this one; named as oslo.messaging names it."""

    def __init__(self, version: str, method: str) -> None:
        super().__init__(f"Endpoint does not support RPC version {version}. Attempted method: {method}")


class Engine:
    """One engine with its state.

    :param state: folder; nobody else may hold it
    :param host: name in the list of services
    :param clock: now, UTC without a zone
    :raises ConfigurationError: the folder cannot be used (statefolder.py, store.py); stored stacks are as they were
    """

    def __init__(
        self,
        state: pathlib.Path,
        *,
        host: str | None = None,
        clock: Callable[[], datetime.datetime] = utcnow,
        settings: Settings | None = None,
    ) -> None:
        self._host = host or socket.gethostname()
        self._clock = clock
        self._id = str(uuid.uuid4())
        self._started = clock()
        store = Store(pathlib.Path(state))
        self._core = Core(store, settings or Settings(), clock)
        try:
            cut_off = recovery.settle(self._core.journal)
        except BaseException:
            self.close(0)
            raise
        if cut_off:
            LOG.warning("%d stacks were in progress when the last engine went down; they are FAILED now", cut_off)
        self._methods = self._table()

    def _table(self) -> dict[str, Callable[..., Any]]:
        parts: list[tuple[Any, str]] = [
            (StackCalls(self._core), _STACKS),
            (ResourceCalls(self._core), _RESOURCES),
            (CatalogueCalls(), _CATALOGUE),
            (SoftwareCalls(self._core.store, self._core.configs, self._clock), _SOFTWARE),
            (self, _ENGINE),
        ]
        return {name: getattr(part, name) for part, names in parts for name in names.split()}

    def dispatch(self, context: Mapping[str, Any], method: str, arguments: Mapping[str, Any], version: str) -> Any:
        """Answer one call. Blocks until the answer is there; operations that it starts go on.

        :param context: who asks, as it crosses RPC
        :param arguments: by name
        :param version: of the contract, ``1.36``; empty: ``1.0``
        """
        if not _supported(version):
            raise UnsupportedVersion(version, method)
        handler = self._methods.get(method)
        if handler is None:
            raise NoSuchMethod(method)
        try:
            with limits.metered(limits.DEFAULT):
                return handler(Caller.from_context(context), **arguments)
        except StoreUnwritable as error:
            # Clients know the base class only.
            raise heat.Error(message=str(error)) from error

    def get_revision(self, caller: Caller) -> str:
        """Upstream's answer where nobody configured a revision."""
        return "unknown"

    def authenticated_to_backend(self, caller: Caller) -> bool:
        """There is no backend that could refuse."""
        return True

    def list_services(self, caller: Caller) -> list[dict[str, Any]]:
        """This engine, which is up, or nobody would answer."""
        return [
            {
                "id": self._id,
                "binary": "heat-engine",
                "engine_id": self._id,
                "host": self._host,
                "hostname": self._host,
                "topic": "engine",
                "report_interval": _REPORT_INTERVAL,
                "created_at": self._started.strftime(_REMOTE_TIME),
                "updated_at": self._clock().strftime(_REMOTE_TIME),
                "deleted_at": None,
                "status": "up",
            }
        ]

    def close(self, timeout: float) -> None:
        """Let operations end for up to ``timeout`` seconds, then stop; the next start settles what was left."""
        if not self._core.scheduler.close(timeout):
            LOG.warning("The engine stops while stacks are in progress; its next start will fail them")
        self._core.store.close()


def _supported(version: str) -> bool:
    try:
        major, minor = (int(part) for part in (version or "1.0").split("."))
    except ValueError:
        return False
    return major == RPC_API_VERSION[0] and minor <= RPC_API_VERSION[1]
