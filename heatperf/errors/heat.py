"""Exceptions of the Heat API: what clients see in the ``error`` part of an answer.

Raised by api/ for its own refusals and by rpc/remote.py, which rebuilds from these classes what an engine raised.
Rendered by pipeline/faultwrap.py. Every class carries the HTTP status that upstream's fault wrapper gives its name;
a subclass inherits it. The class names and message texts are part of the API: clients match on both.

Constructor signatures matter as much as texts: an engine sends positional and keyword arguments, and a class that
does not accept them turns the whole failure into a RemoteError (status 500). So each ``__init__`` here accepts what
upstream's class of that name accepts, and nothing else.

Source of names, texts, signatures and statuses: openstack-heat 27.0.1, compared by tests/conformance.
"""

from contextlib import suppress
from typing import Any


class HeatError(Exception):
    """Base of the API's exceptions; ``safe``: its message may be shown to clients.

    :param kwargs: values for the placeholders of ``template``; a missing one leaves the class's default message, as
        upstream does, instead of failing while failing
    """

    status = 500
    safe = True
    template = ""
    message = "An unknown exception occurred."

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs
        #: traceback text of the engine, when the exception crossed RPC
        self.remote_trace: str | None = None
        with suppress(KeyError):
            self.message = self.template % kwargs

    def __str__(self) -> str:
        return self.message


class _JoinsArguments(HeatError):
    """Takes the names of properties or parameters as positional arguments and joins them into one placeholder."""

    joined = ""

    def __init__(self, *args: str, **kwargs: Any) -> None:
        if args:
            kwargs[self.joined] = ", ".join(args)
        super().__init__(**kwargs)


class MissingCredentialError(HeatError):
    status = 400
    template = "Missing required credential: %(required)s"


class AuthorizationFailure(HeatError):
    template = "Authorization failed.%(failure_reason)s"

    def __init__(self, failure_reason: str = "") -> None:
        super().__init__(failure_reason=" " + failure_reason if failure_reason != "" else "")


class NotAuthenticated(HeatError):
    template = "You are not authenticated."


class Forbidden(HeatError):
    status = 403
    template = "You are not authorized to use %(action)s."

    def __init__(self, action: str = "this action") -> None:
        super().__init__(action=action)


class NotAuthorized(Forbidden):
    template = "You are not authorized to complete this action."


class Invalid(HeatError):
    status = 400
    template = "Data supplied was not valid: %(reason)s"


class UserParameterMissing(HeatError):
    status = 400
    template = "The Parameter (%(key)s) was not provided."


class UnknownUserParameter(HeatError):
    status = 400
    template = "The Parameter (%(key)s) was not defined in template."


class InvalidTemplateVersion(HeatError):
    status = 400
    template = "The template version is invalid: %(explanation)s"


class InvalidTemplateSection(HeatError):
    status = 400
    template = "The template section is invalid: %(section)s"


class ImmutableParameterModified(_JoinsArguments):
    status = 400
    joined = "keys"
    template = "The following parameters are immutable and may not be updated: %(keys)s"


class InvalidMergeStrategyForParam(HeatError):
    template = "Invalid merge strategy '%(strategy)s' for parameter '%(param)s'."


class ConflictingMergeStrategyForParam(HeatError):
    template = "Conflicting merge strategy '%(strategy)s' for parameter '%(param)s' in file '%(env_file)s'."


class InvalidTemplateAttribute(HeatError):
    template = "The Referenced Attribute (%(resource)s %(key)s) is incorrect."


class InvalidTemplateReference(HeatError):
    status = 400
    template = 'The specified reference "%(resource)s" (in %(key)s) is incorrect.'


class TemplateOutputError(HeatError):
    template = "Error in %(resource)s output %(attribute)s: %(message)s"


class InvalidEncryptionKey(HeatError):
    template = "Can not decrypt data with the auth_encryption_key in heat config."


class InvalidExternalResourceDependency(HeatError):
    template = "Invalid dependency with external %(resource_type)s resource: %(external_id)s"


class EntityNotFound(HeatError):
    status = 404
    template = "The %(entity)s (%(name)s) could not be found."

    def __init__(self, entity: Any = None, name: Any = None, **kwargs: Any) -> None:
        super().__init__(entity=entity, name=name, **kwargs)


class ResourceNotFound(EntityNotFound):
    template = "The Resource (%(resource_name)s) could not be found in Stack %(stack_name)s."


class SnapshotNotFound(EntityNotFound):
    template = "The Snapshot (%(snapshot)s) for Stack (%(stack)s) could not be found."


class PhysicalResourceExists(HeatError):
    template = "The physical resource for (%(name)s) exists."


class PhysicalResourceNameAmbiguity(HeatError):
    status = 400
    template = "Multiple physical resources were found with name (%(name)s)."


class PhysicalResourceIDAmbiguity(HeatError):
    status = 400
    template = "Multiple resources were found with the physical ID (%(phys_id)s)."


class InvalidTenant(HeatError):
    status = 403
    template = "Searching Tenant %(target)s from Tenant %(actual)s forbidden."


class StackExists(HeatError):
    status = 409
    template = "The Stack (%(stack_name)s) already exists."


class HeatExceptionWithPath(HeatError):
    """An error at a place inside a template, rendered as ``error: a.b[0]: message``."""

    template = "%(error)s%(path)s%(message)s"

    def __init__(self, error: Any = None, path: Any = None, message: Any = None) -> None:
        self.error = error or ""
        if isinstance(path, str):
            path = [path]
        self.path = path if isinstance(path, list) else []
        place = ""
        for step in self.path:
            if isinstance(step, int) or step.isdigit():
                place += f"[{step}]"
            else:
                place += f".{step}" if place else step
        self.error_message = message or ""
        super().__init__(
            error=f"{self.error}: " if self.error != "" else "",
            path=f"{place}: " if place else "",
            message=self.error_message,
        )


class StackValidationFailed(HeatExceptionWithPath):
    status = 400

    def __init__(self, error: Any = None, path: Any = None, message: Any = None, resource: Any = None) -> None:
        # `resource` is an engine object; over RPC it can only be null, anything else cannot be rebuilt
        if resource is not None and not path:
            raise TypeError("a resource cannot cross RPC")
        super().__init__(error=error, path=path, message=message)


class InvalidSchemaError(HeatError):
    status = 400
    template = "%(message)s"


class InvalidGlobalResource(HeatError):
    template = "There was an error loading the definition of the global resource type %(type_name)s."


class ResourceTypeUnavailable(HeatError):
    status = 400
    template = (
        "HEAT-E99001 Service %(service_name)s is not available for resource type %(resource_type)s, reason: %(reason)s"
    )
    message = "HEAT-E99001 An unknown exception occurred."


class InvalidBreakPointHook(HeatError):
    status = 400
    template = "%(message)s"


class InvalidRestrictedAction(HeatError):
    template = "%(message)s"


class ResourceNotAvailable(HeatError):
    status = 404
    template = "The Resource (%(resource_name)s) is not available."


class ClientNotAvailable(HeatError):
    template = "The client (%(client_name)s) is not available."


class NotSupported(HeatError):
    status = 400
    template = "%(feature)s is not supported."


class ResourceActionNotSupported(HeatError):
    status = 400
    template = "%(action)s is not supported for resource."


class ResourceActionRestricted(HeatError):
    template = "%(action)s is restricted for resource."


class ResourcePropertyConflict(_JoinsArguments):
    status = 400
    joined = "props"
    template = "Cannot define the following properties at the same time: %(props)s."


class ResourcePropertyDependency(HeatError):
    template = "%(prop1)s cannot be specified without %(prop2)s."


class ResourcePropertyValueDependency(HeatError):
    template = "%(prop1)s property should only be specified for %(prop2)s with value %(value)s."


class PropertyUnspecifiedError(_JoinsArguments):
    status = 400
    joined = "props"
    template = "At least one of the following properties must be specified: %(props)s."


class ResourceUnknownStatus(HeatError):
    template = '%(result)s - Unknown status %(resource_status)s due to "%(status_reason)s"'

    def __init__(self, result: str = "Resource failed", status_reason: str = "Unknown", **kwargs: Any) -> None:
        super().__init__(result=result, status_reason=status_reason, **kwargs)


class ResourceInError(HeatError):
    template = 'Went to status %(resource_status)s due to "%(status_reason)s"'

    def __init__(self, status_reason: str = "Unknown", **kwargs: Any) -> None:
        super().__init__(status_reason=status_reason, **kwargs)


class EgressRuleNotAllowed(HeatError):
    template = "Egress rules are only allowed when Neutron is used and the 'VpcId' property is set."


class Error(HeatError):
    template = "%(message)s"

    def __init__(self, message: Any) -> None:
        super().__init__(message=message)


class NotFound(HeatError):
    status = 404

    def __init__(self, msg_fmt: str = "Not found") -> None:
        self.template = msg_fmt
        super().__init__()


class InvalidContentType(HeatError):
    template = "Invalid content type %(content_type)s"


class RequestLimitExceeded(HeatError):
    status = 400
    template = "Request limit exceeded: %(message)s"


class DownloadLimitExceeded(HeatError):
    status = 400
    template = "Permissible download limit exceeded: %(message)s"


class StackResourceLimitExceeded(HeatError):
    template = "Maximum resources per stack exceeded."


class ActionInProgress(HeatError):
    status = 409
    template = "Stack %(stack_name)s already has an action (%(action)s) in progress."


class ActionNotComplete(HeatError):
    template = "Stack %(stack_name)s has an action (%(action)s) in progress or failed state."


class StopActionFailed(HeatError):
    template = "Failed to stop stack (%(stack_name)s) on other engine (%(engine_id)s)"


class EventSendFailed(HeatError):
    template = "Failed to send message to stack (%(stack_name)s) on other engine (%(engine_id)s)"


class InterfaceAttachFailed(HeatError):
    template = "Failed to attach interface (%(port)s) to server (%(server)s)"


class InterfaceDetachFailed(HeatError):
    template = "Failed to detach interface (%(port)s) from server (%(server)s)"


class UnsupportedObjectError(HeatError):
    status = 400
    template = "Unsupported object type %(objtype)s"


class OrphanedObjectError(HeatError):
    status = 400
    template = "Cannot call %(method)s on orphaned %(objtype)s object"


class IncompatibleObjectVersion(HeatError):
    status = 400
    template = "Version %(objver)s of %(objname)s is not supported"


class ObjectActionError(HeatError):
    status = 400
    template = "Object action %(action)s failed because: %(reason)s"


class ReadOnlyFieldError(HeatError):
    status = 400
    template = "Cannot modify readonly field %(field)s"


class ConcurrentTransaction(HeatError):
    template = "Concurrent transaction for %(action)s"


class ObjectFieldInvalid(HeatError):
    status = 400
    template = "Field %(field)s of %(objname)s is not an instance of Field"


class KeystoneServiceNameConflict(HeatError):
    template = "Keystone has more than one service with same name %(service)s. Please use service id instead of name"


class SIGHUPInterrupt(HeatError):
    template = "System SIGHUP signal received."


class InvalidServiceVersion(HeatError):
    template = "Invalid service %(service)s version %(version)s"


class InvalidTemplateVersions(HeatError):
    template = (
        "A template version alias %(version)s was added for a template class that has no official YYYY-MM-DD version."
    )


class UnableToAutoAllocateNetwork(HeatError):
    template = "Unable to automatically allocate a network: %(message)s"


class CircularDependencyException(HeatError):
    status = 400
    template = "Circular Dependency Found: %(cycle)s"


class ResourceFailure(HeatExceptionWithPath):
    """Upstream's needs an engine's resource object to be built, so one that crosses RPC becomes a RemoteError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a resource cannot cross RPC")


class _EngineException(Exception):
    """Upstream exceptions that are not HeatExceptions: their message is not shown to clients."""

    status = 500
    text = "%s"

    def __init__(self, resource_name: str = "Unknown") -> None:
        self.remote_trace: str | None = None
        super().__init__(self.text % resource_name)


class UpdateReplace(_EngineException):
    text = "The Resource %s requires replacement."


class UpdateInProgress(_EngineException):
    text = "The resource %s is already being updated."


class HTTPExceptionDisguise(Exception):
    """Carries a WebOb error answer up to the fault filter, past WebOb's decorators that would send it as it is.

    :param exc: the answer
    """

    status = 500
    safe = True

    def __init__(self, exc: Any) -> None:
        super().__init__(str(exc))
        self.exc = exc


class RemoteError(Exception):
    """An engine raised something that is not part of the API's vocabulary; clients see 500 and this class's name.

    :param exc_type: class name the engine sent
    :param value: its message
    :param traceback: its traceback, lines
    """

    status = 500

    def __init__(self, exc_type: str | None = None, value: str | None = None, traceback: Any = None) -> None:
        self.exc_type = exc_type
        self.value = value
        self.traceback = traceback
        super().__init__(f"Remote error: {exc_type} {value}\n{traceback}.")


class MessagingTimeout(Exception):
    """No engine answered within rpc_response_timeout; clients see 500 and this class's name, as upstream."""

    status = 500


class EngineUnavailable(Exception):
    """The request provably never reached an engine, so a client may send it again.

    :param reason: why, in a sentence that holds no address and no secret
    :param retry_after: seconds
    """

    status = 503
    safe = True

    def __init__(self, reason: str, retry_after: int = 5) -> None:
        self.message = reason
        self.retry_after = retry_after
        super().__init__(reason)


class EngineLost(MessagingTimeout):
    """No answer can come any more, and nobody knows whether an engine carried the request out.

    The embedded engine went away before it answered; or, with the lean transport over RabbitMQ, the reply queue was
    lost with the answers in it. A MessagingTimeout because that is what stock messaging makes of it, once
    rpc_response_timeout has passed.
    """

    safe = True


#: Name on the wire -> class, for everything upstream's engine may send from heat.common.exception.
BY_NAME: dict[str, type[Exception]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type)
    and issubclass(value, (HeatError, _EngineException, HTTPExceptionDisguise))
    and not name.startswith("_")
    and name != "HeatError"
}
