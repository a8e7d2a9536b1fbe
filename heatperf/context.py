"""RequestContext: what a request knows of its caller, and what of it goes to the engine.

In: a WSGI environ that authtoken (or noauth, authpassword) has filled. Out: policy credentials, the RPC context, log
values. Runs on the worker's loop; the current context is carried in a contextvar, because all greenlets of a worker
share one thread and oslo.context's own thread-local store would show one request's values to another.
"""

import logging
from contextvars import ContextVar
from typing import Any

from oslo_context import context as oslo_context

_current: ContextVar["RequestContext | None"] = ContextVar("heatperf_request_context", default=None)


def get_current() -> "RequestContext | None":
    """Return the context of the request this greenlet (or offloaded call) works for, or None."""
    return _current.get()


def context_of(environ: dict[str, Any]) -> Any:
    """Return what the context station has put into a WSGI environ, or None before it has."""
    return environ.get("webob.adhoc_attrs", {}).get("context")


class RequestContext(oslo_context.RequestContext):
    """Caller of one API request, with the fields that Heat adds to oslo.context's.

    ``is_admin`` stays None until the context filter has asked the policy; ``trace_info`` is set by osprofiler.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        aws_creds: str | None = None,
        auth_url: str | None = None,
        is_admin: bool | None = None,
        trust_id: str | None = None,
        trustor_user_id: str | None = None,
        auth_token_info: dict[str, Any] | None = None,
        region_name: str | None = None,
        auth_plugin: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(is_admin=is_admin, **kwargs)
        self.username = username
        self.password = password
        if username is None and password is None:
            self.username = self.user_name
        self.aws_creds = aws_creds
        self.auth_url = auth_url
        self.trust_id = trust_id
        self.trustor_user_id = trustor_user_id
        self.auth_token_info = auth_token_info
        self.region_name = region_name
        self.auth_plugin = auth_plugin
        self.trace_info: dict[str, Any] | None = None

    def update_store(self) -> None:
        """Make this the current context of the running greenlet, instead of the thread's as oslo.context would."""
        _current.set(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the context as engines from heat 26 on read it."""
        values = super().to_dict()
        values.update(
            username=self.username,
            password=self.password,
            aws_creds=self.aws_creds,
            trust_id=self.trust_id,
            trustor_user_id=self.trustor_user_id,
            auth_token_info=self.auth_token_info,
            auth_url=self.auth_url,
            region_name=self.region_name,
            project_name=self.project_name,
        )
        return values

    def to_rpc(self) -> dict[str, Any]:
        """Return the context for the wire: :meth:`to_dict` and the names that engines up to 25 read.

        ``tenant`` is left out on purpose: engines up to 25 prefer ``project_name``, which is there, and engines from 26
        on would take ``tenant`` for the project's name.
        """
        values = self.to_dict()
        values.update(
            user_id=self.user_id,
            tenant_id=self.project_id,
            user_domain_id=self.user_domain_id,
            project_domain_id=self.project_domain_id,
        )
        if self.trace_info:
            values["trace_info"] = self.trace_info
        return values

    def get_logging_values(self) -> dict[str, Any]:
        """Return values for log formatters; secrets that oslo.context does not know of are masked here."""
        values = super().get_logging_values()
        for name in ("password", "aws_creds"):
            if values.get(name):
                values[name] = "***"
        return values

    def to_policy_values(self) -> Any:
        """Return oslo.policy credentials, with the older names that Heat's policy files still use."""
        values = super().to_policy_values()
        values["user"] = self.user_id
        values["tenant"] = self.project_id
        values["is_admin"] = self._is_admin
        values["auth_token_info"] = self.auth_token_info
        return values


def admin_context() -> RequestContext:
    """Return the context for listings across projects: an administrator of no project, as upstream sends it.

    The current request's context stays current, so log lines keep its request id.
    """
    asking = _current.get()
    token = _current.set(None)
    try:
        context = RequestContext(is_admin=True)
    finally:
        _current.reset(token)
    if asking is not None:
        context.trace_info = asking.trace_info  # the trace goes on through the engine
    return context


class ContextLogFilter(logging.Filter):
    """Give every log record the context of its own request.

    oslo.log's formatter looks for ``record.context`` first and at oslo.context's thread-local store second; this
    filter sits on the handlers and fills the first.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "context", None) is None:
            record.context = _current.get()
        return True
