"""Software configs and deployments: stored documents that servers of a cloud would fetch.

Comes in: a caller and the arguments of the calls. Goes out: answers as views.py formats them. Raises: upstream's
errors (NotFound, InvalidRestrictedAction, RequestLimitExceeded). Called from threads of requests and, for resources of
type OS::Heat::SoftwareConfig, from the scheduler's.
"""

import datetime
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heatperf.engine import queries, records, views
from heatperf.engine.caller import Caller
from heatperf.engine.resources import software_config
from heatperf.engine.resources.schema import Properties, Property
from heatperf.engine.store import Session, Store
from heatperf.errors import heat

#: Upstream's max_software_configs_per_tenant and max_software_deployments_per_tenant.
MAX_CONFIGS = MAX_DEPLOYMENTS = 4096

#: What every deployment may report beside its declared outputs.
_STANDARD_OUTPUTS = ("deploy_stdout", "deploy_stderr", "deploy_status_code")
_STATUS_CODE = "deploy_status_code"

#: Seconds between two looks at a deployment that somebody waits for.
_POLL = 0.2

Clock = Callable[[], datetime.datetime]


def _checked_io(items: Any, schema: dict[str, Property], extra: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Inputs or outputs with defaults filled in.

    :param extra: keys kept as they are, outside the schema
    :raises TypeError: not a list of maps
    :raises ValueError: an item does not meet the schema
    """
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise TypeError("Software Config I/O Schema must be in a list")
    if not all(isinstance(item, Mapping) for item in items):
        raise TypeError("Software Config I/O Schema must be a dict")
    checked = []
    for item in items:
        properties = Properties(schema, {key: value for key, value in item.items() if key not in extra})
        try:
            properties.validate()
        except heat.StackValidationFailed as error:
            raise ValueError(str(error)) from error
        values = {key: value for key, value in properties.items() if value is not None}
        if not values.get("replace_on_change"):
            values.pop("replace_on_change", None)
        checked.append({**values, **{key: item[key] for key in extra if key in item}})
    return checked


class SoftwareConfigs:
    """Configs of all projects; every call names one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._now = clock

    def create(
        self, tenant: str, *, group: Any, name: Any, config: Any, inputs: Any, outputs: Any, options: Any
    ) -> dict[str, Any]:
        """Store a config. :raises TypeError, ValueError: inputs or outputs are no such lists"""
        document = {
            "inputs": _checked_io(inputs, software_config.INPUT, ("value",)),
            "outputs": _checked_io(outputs, software_config.OUTPUT),
            "options": options,
            "config": config,
        }
        record = records.SoftwareConfig(
            id=str(uuid.uuid4()), tenant=tenant, name=name, group=group, config=document, created_at=self._now()
        )
        with self._store.transaction() as session:
            session.insert(record)
        return views.format_config(record)

    def find(self, tenant: str, config_id: str) -> dict[str, Any] | None:
        """A config of the project, or None."""
        with self._store.reading() as session:
            record = session.get(records.SoftwareConfig, config_id)
        return views.format_config(record) if record is not None and record.tenant == tenant else None

    def discard(self, tenant: str, config_id: str) -> None:
        """Remove a config; a missing one is no error. :raises InvalidRestrictedAction: a deployment uses it"""
        with self._store.transaction() as session:
            record = session.get(records.SoftwareConfig, config_id)
            if record is not None and record.tenant == tenant:
                _delete_config(session, record)


def _delete_config(session: Session, record: records.SoftwareConfig) -> None:
    if session.count(records.SoftwareDeployment, "config_id = ?", record.id):
        raise heat.InvalidRestrictedAction(
            message=f"Software config with id {record.id} can not be deleted as it is referenced."
        )
    session.delete(records.SoftwareConfig, "id = ?", record.id)


def _config(session: Session, caller: Caller, config_id: Any) -> records.SoftwareConfig:
    record = session.get(records.SoftwareConfig, config_id)
    if record is None or not caller.may_see(record.tenant):
        raise heat.NotFound(f"Software config with id {config_id} not found")
    return record


def _deployment(session: Session, caller: Caller, deployment_id: Any) -> records.SoftwareDeployment:
    record = session.get(records.SoftwareDeployment, deployment_id)
    if record is None or not caller.may_see(record.tenant, record.stack_user_project_id):
        raise heat.NotFound(f"Deployment with id {deployment_id} not found")
    return record


def _parsed_time(text: str) -> datetime.datetime:
    at = datetime.datetime.fromisoformat(text)
    return at if at.tzinfo is None else at.astimezone(datetime.UTC).replace(tzinfo=None)


class SoftwareCalls:
    """The RPC methods about configs and deployments; names and arguments as in rpc/methods.py."""

    def __init__(self, store: Store, configs: SoftwareConfigs, clock: Clock) -> None:
        self._store = store
        self._configs = configs
        self._now = clock

    def list_software_configs(
        self, caller: Caller, limit: Any = None, marker: str | None = None, tenant_safe: bool = True
    ) -> list[dict[str, Any]]:
        every = caller.is_admin or not tenant_safe
        where, parameters = ("1", ()) if every else ("tenant = ?", (caller.project_id,))
        with self._store.reading() as session:
            found = queries.page(
                session, records.SoftwareConfig, where, parameters, limit=limit, marker=marker, marker_column="id"
            )
        return [views.format_config(record, detail=False, with_project=every) for record in found]

    def show_software_config(self, caller: Caller, config_id: str) -> dict[str, Any]:
        with self._store.reading() as session:
            return views.format_config(_config(session, caller, config_id))

    def create_software_config(
        self, caller: Caller, group: Any, name: Any, config: Any, inputs: Any, outputs: Any, options: Any
    ) -> dict[str, Any]:
        self._hold_limit(caller, records.SoftwareConfig, MAX_CONFIGS, "software configs", "configs")
        return self._configs.create(
            str(caller.project_id),
            group=group,
            name=name,
            config=config,
            inputs=inputs,
            outputs=outputs,
            options=options,
        )

    def _hold_limit(self, caller: Caller, kind: type[records.Record], limit: int, what: str, short: str) -> None:
        if caller.is_admin:
            return
        with self._store.reading() as session:
            if session.count(kind, "tenant = ?", caller.project_id) >= limit:
                raise heat.RequestLimitExceeded(
                    message=f"You have reached the maximum {what} per tenant, {limit}. Please delete some {short}."
                )

    def delete_software_config(self, caller: Caller, config_id: str) -> None:
        with self._store.transaction() as session:
            _delete_config(session, _config(session, caller, config_id))

    def _deployments(self, session: Session, caller: Caller, server_id: Any) -> list[records.SoftwareDeployment]:
        where, parameters = "1", []
        if not caller.is_admin:
            where = "(tenant = ? OR stack_user_project_id = ?)"
            parameters = [caller.project_id, caller.project_id]
        if server_id:
            where += " AND server_id = ?"
            parameters.append(server_id)
        return session.select(records.SoftwareDeployment, where, *parameters, tail="ORDER BY created_at")

    def list_software_deployments(self, caller: Caller, server_id: str | None = None) -> list[dict[str, Any]]:
        with self._store.reading() as session:
            return [views.format_deployment(record) for record in self._deployments(session, caller, server_id)]

    def metadata_software_deployments(self, caller: Caller, server_id: str) -> list[dict[str, Any]]:
        if not server_id:
            raise ValueError("server_id must be specified")
        with self._store.reading() as session:
            used = [
                session.get(records.SoftwareConfig, record.config_id)
                for record in self._deployments(session, caller, server_id)
            ]
        configs = sorted((config for config in used if config is not None), key=lambda config: config.name or "")
        return [views.format_config(config) for config in configs]

    def show_software_deployment(self, caller: Caller, deployment_id: str) -> dict[str, Any]:
        with self._store.reading() as session:
            return views.format_deployment(_deployment(session, caller, deployment_id))

    def check_software_deployment(self, caller: Caller, deployment_id: str, timeout: float) -> dict[str, Any]:
        """Wait up to ``timeout`` seconds for a deployment to leave IN_PROGRESS."""
        until = time.monotonic() + timeout
        while True:
            shown = self.show_software_deployment(caller, deployment_id)
            if shown["status"] != records.IN_PROGRESS:
                return shown
            if time.monotonic() >= until:
                raise TimeoutError("Timed out")
            time.sleep(_POLL)

    def create_software_deployment(
        self,
        caller: Caller,
        server_id: str,
        config_id: str,
        input_values: Any = None,
        action: str | None = "INIT",
        status: str | None = "COMPLETE",
        status_reason: Any = "",
        stack_user_project_id: str | None = None,
        deployment_id: str | None = None,
    ) -> dict[str, Any]:
        self._hold_limit(caller, records.SoftwareDeployment, MAX_DEPLOYMENTS, "software deployments", "deployments")
        if stack_user_project_id is not None and len(stack_user_project_id) > 64:
            raise heat.Invalid(reason='"stack_user_project_id" should be no more than 64 characters')
        record = records.SoftwareDeployment(
            id=deployment_id or str(uuid.uuid4()),
            tenant=str(caller.project_id),
            config_id=config_id,
            server_id=server_id,
            created_at=self._now(),
            stack_user_project_id=stack_user_project_id,
            input_values=input_values,
            action=action,
            status=status,
            status_reason=str(status_reason),
        )
        with self._store.transaction() as session:
            _config(session, caller, config_id)
            if session.get(records.SoftwareDeployment, record.id) is not None:
                raise heat.Invalid(reason=f"a deployment with id {record.id} exists")
            session.insert(record)
        return views.format_deployment(record)

    def update_software_deployment(
        self,
        caller: Caller,
        deployment_id: str,
        config_id: str | None = None,
        input_values: Any = None,
        output_values: Any = None,
        action: str | None = None,
        status: str | None = None,
        status_reason: Any = None,
        updated_at: str | None = None,
    ) -> dict[str, Any]:
        given = {
            "config_id": config_id,
            "input_values": input_values,
            "output_values": output_values,
            "action": action,
            "status": status,
            "status_reason": str(status_reason) if status_reason else None,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value}
        changes["updated_at"] = _parsed_time(updated_at) if updated_at else self._now()
        with self._store.transaction() as session:
            if config_id:
                _config(session, caller, config_id)
            record = _deployment(session, caller, deployment_id)
            session.update(records.SoftwareDeployment, record.id, **changes)
            return views.format_deployment(_deployment(session, caller, deployment_id))

    def delete_software_deployment(self, caller: Caller, deployment_id: str) -> None:
        with self._store.transaction() as session:
            record = _deployment(session, caller, deployment_id)
            session.delete(records.SoftwareDeployment, "id = ?", record.id)

    def signal_software_deployment(
        self, caller: Caller, deployment_id: str, details: Any, updated_at: str | None = None
    ) -> str | None:
        """Take what a server reports of a deployment; returns a sentence for the log, None where none was awaited."""
        if not deployment_id:
            raise ValueError("deployment_id must be specified")
        with self._store.transaction() as session:
            record = _deployment(session, caller, deployment_id)
            if record.status != records.IN_PROGRESS:
                return None
            config = session.get(records.SoftwareConfig, record.config_id)
            declared = (config.config["outputs"] or []) if config is not None else []
            outcome, reasons, values = _outcome(record, declared, details or {})
            reason = ", ".join(f"{key} : {value}" for key, value in reasons.items()) or "Outputs received"
            self.update_software_deployment(
                caller,
                deployment_id,
                output_values=values,
                status=records.FAILED if reasons else records.COMPLETE,
                status_reason=reason,
                updated_at=updated_at,
            )
        return outcome


def _outcome(
    record: records.SoftwareDeployment, declared: list[dict[str, Any]], details: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A sentence about the report, why the deployment failed (empty: it did not), and its output values."""
    values = dict(record.output_values or {})
    reasons: dict[str, Any] = {}
    code = details.get(_STATUS_CODE)
    sentence = f"deployment {record.id} succeeded"
    if code and str(code) != "0":
        reasons[_STATUS_CODE] = f"Deployment exited with non-zero status code: {code}"
        sentence = f"deployment {record.id} failed ({code})"
    for output in declared:
        name = output["name"]
        if name in details:
            values[name] = details[name]
            if output.get("error_output", False):
                reasons[name] = details[name]
                sentence = f"deployment {record.id} failed"
    values.update({name: details.get(name) for name in _STANDARD_OUTPUTS})
    return sentence, reasons, values
