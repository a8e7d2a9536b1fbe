"""RequestContext: what a request knows of its caller, and what of it goes to the engine.

In: a WSGI environ that authtoken (or noauth, authpassword) has filled. Out: policy credentials, the RPC context, log
values. Runs on the worker's loop; the current context is carried in a contextvar, because all greenlets of a worker
share one thread and oslo.context's own thread-local store would show one request's values to another.

Most of a context says the same in all requests with one token. That part is a Caller, made once; the few fields that
differ by request are RequestContext.of_caller's.
"""

import copy
import logging
from contextvars import ContextVar
from typing import Any

from oslo_context import context as oslo_context

#: Where a station that knows its caller leaves the Caller in the WSGI environ.
CALLER = "heatperf.caller"

_current: ContextVar["RequestContext | None"] = ContextVar("heatperf_request_context", default=None)


def get_current() -> "RequestContext | None":
    """Return the context of the request this greenlet (or offloaded call) works for, or None."""
    return _current.get()


def context_of(environ: dict[str, Any]) -> Any:
    """Return what the context station has put into a WSGI environ, or None before it has."""
    return environ.get("webob.adhoc_attrs", {}).get("context")


class Caller:
    """What a token, or a pair of user token and service token, says of its bearer; all requests with it share one.

    Never changed but for the memos, which are filled as they are needed. It is trusted only from where it was put into
    the environ (``CALLER``) to the context station; a station in between that could change identity calls ``part``.

    :ivar environ: entries that authentication leaves in the WSGI environ
    :ivar fields: of the RequestContext, but for those that differ by request; None until the context station has met
        the caller
    :ivar decisions: answers of the policy about the caller's own project, by rule; of the rule set ``decided_by``
    :ivar encoded: the caller's part of the RPC context, in the form that the transport sends
    """

    __slots__ = ("environ", "fields", "decisions", "decided_by", "encoded")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.fields: dict[str, Any] | None = None
        self.decisions: dict[str, bool] = {}
        self.decided_by: object = None
        self.encoded: bytes | None = None

    def keep_encoded(self, encoded: bytes) -> None:
        """Fill the memo ``encoded``."""
        self.encoded = encoded


def part(environ: dict[str, Any]) -> None:
    """Part a request from the others of its caller, before code runs that may change what it finds in the environ.

    Free where the request shares nothing.
    """
    caller = environ.pop(CALLER, None)
    context = context_of(environ)
    shared = isinstance(context, RequestContext) and context.caller is not None
    if caller is None and not shared:
        return
    info = copy.deepcopy(environ.get("keystone.token_info"))
    if info is not None:
        environ["keystone.token_info"] = info
    if shared:
        context.caller = None
        context.auth_token_info = info
        context.roles = list(context.roles)
        context.service_roles = list(context.service_roles)


class RequestContext(oslo_context.RequestContext):
    """Caller of one API request, with the fields that Heat adds to oslo.context's.

    ``is_admin`` stays None until the context filter has asked the policy; ``trace_info`` is set by osprofiler.
    ``caller`` is what the request shares with others, None where it shares nothing.
    """

    caller: Caller | None = None

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

    @classmethod
    def of_caller(cls, caller: Caller, environ: dict[str, Any]) -> "RequestContext":
        """Return the context of one more request of a caller whose ``fields`` are known, and make it the current one.

        Equal to what the context station makes of the whole environ, at a tenth of the price: no field but those set
        here comes from headers that authentication leaves to the client.
        """
        get = environ.get
        context = cls.__new__(cls)
        context.__dict__ = values = caller.fields.copy()  # type: ignore[union-attr]
        values["caller"] = caller
        values["request_id"] = get("openstack.request_id") or oslo_context.generate_request_id()
        values["global_request_id"] = get("openstack.global_request_id")
        values["auth_url"] = get("HTTP_X_AUTH_URL")
        values["region_name"] = get("HTTP_X_REGION_NAME")
        username = get("HTTP_X_AUTH_USER")
        if username is None:
            values["aws_creds"] = get("HTTP_X_AUTH_EC2_CREDS")
        else:
            values["username"] = username
            values["password"] = get("HTTP_X_AUTH_KEY")
        _current.set(context)
        return context

    def remember(self, caller: Caller) -> None:
        """Keep what other requests of the caller share with this one."""
        fields = self.__dict__.copy()
        fields.update(username=self.user_name, password=None, aws_creds=None, trace_info=None, _is_admin=None)
        # not itself: a cycle would leave the memory of forgotten callers to the garbage collector
        fields.pop("caller", None)
        caller.fields = fields
        self.caller = caller

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
