"""Functions that bring in what stands elsewhere: parameters, resources, attributes, files, the parent resource.

Comes in: parsed arguments. Goes out: values of parameters, files and resources. Raises what base.py says, and
UserParameterMissing, InvalidTemplateReference, InvalidTemplateAttribute of errors.heat.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from heatperf.engine.functions.base import Function, Scope, is_list, resolve, select, spend
from heatperf.errors import heat


class GetParam(Function):
    """``get_param: name`` or ``get_param: [name, path, ...]``; a path that leads nowhere gives an empty text."""

    description = "Returns the value of a parameter, or a part of it."

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not arguments:
            raise ValueError(f'Function "{self.name}" must have arguments')
        if isinstance(arguments, str):
            parameter, *path = [arguments]
        elif isinstance(arguments, Sequence):
            parameter, *path = arguments
        else:
            raise TypeError(f'Argument to "{self.name}" must be string or list')
        if not isinstance(parameter, str):
            raise TypeError(f'Parameter name in "{self.name}" must be string')
        try:
            value = self.scope.parameters[parameter]
        except KeyError:
            raise heat.UserParameterMissing(key=parameter) from None
        return spend(self._follow(value, path))

    @staticmethod
    def _follow(value: Any, path: Sequence[Any]) -> Any:
        for key in path:
            if not isinstance(value, (Mapping, Sequence)) or not isinstance(key, (str, int)):
                return ""
            try:
                # list indexes may come as text, since parameters are often texts
                value = value[int(key)] if isinstance(value, Sequence) else value[key]
            except (KeyError, IndexError, ValueError):
                return ""
        return value


class ParamRef(Function):
    """``Ref`` to a parameter, in the first version of HOT."""

    def result(self) -> Any:
        name = resolve(self.arguments)
        try:
            return spend(self.scope.parameters[name])
        except (KeyError, TypeError):
            raise heat.InvalidTemplateReference(resource=name, key="unknown") from None


class _RefersToResource(Function):
    """Base of the functions that name a resource."""

    def resource_name(self) -> Any:
        """Return the name as the template says it; it need not exist."""
        raise NotImplementedError

    def resource(self, path: str = "unknown") -> str:
        """Return the name of a resource that exists.

        :param path: where the function stands, for the message
        :raises heat.InvalidTemplateReference: the template has none of this name, or its condition does not hold
        """
        name = self.resource_name()
        if not self.scope.has_resource(name):
            raise heat.InvalidTemplateReference(resource=name, key=path)
        return str(name)

    def dependencies(self, path: str) -> Iterator[str]:
        yield from super().dependencies(path)
        yield self.resource(path)


class GetResource(_RefersToResource):
    """``get_resource: name``."""

    description = "Returns the identifier of a resource."

    def resource_name(self) -> Any:
        return resolve(self.arguments)

    def result(self) -> Any:
        return spend(self.scope.attributes.get_reference(self.resource()))


class GetAttThenSelect(_RefersToResource):
    """``get_attr`` of the first version of HOT: gets the whole attribute, then selects inside it."""

    description = "Returns an attribute of a resource, or a part of it."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        self._resource_name, self._attribute, self._path = self._parse()

    def _parse(self) -> tuple[Any, Any, Any]:
        if not is_list(self.arguments):
            raise TypeError(f'Argument to "{self.name}" must be a list')
        if len(self.arguments) < 2:
            raise ValueError(f'Arguments to "{self.name}" must be of the form [resource_name, attribute, (path), ...]')
        return self.arguments[0], self.arguments[1], self.arguments[2:]

    def resource_name(self) -> Any:
        return resolve(self._resource_name)

    def validate(self) -> None:
        super().validate()
        name = self.resource()
        if self._attribute is None and self._all_allowed:
            return
        attribute = resolve(self._attribute)
        if attribute not in self.scope.attributes.attribute_names(name):
            raise heat.InvalidTemplateAttribute(resource=name, key=attribute)

    #: whether the name of the attribute may be left out
    _all_allowed = False

    def _get(self, path: list[Any]) -> Any:
        """Return what the resource says, charged to the budget.

        :raises heat.InvalidTemplateAttribute: there is no such attribute
        """
        name = self.resource()
        try:
            return spend(self.scope.attributes.get_attr(name, path))
        except KeyError:
            key = path[0] if len(path) == 1 else tuple(path)
            raise heat.InvalidTemplateAttribute(resource=name, key=key) from None

    def result(self) -> Any:
        value = self._get([resolve(self._attribute)])
        return None if value is None else select(value, resolve(self._path))


class GetAtt(GetAttThenSelect):
    """``get_attr: [resource, attribute, path, ...]``: the resource itself follows the path."""

    def result(self) -> Any:
        return self._get([resolve(self._attribute), *resolve(self._path)])


class GetAttAllAttributes(GetAtt):
    """``get_attr`` that gives all attributes where none is named."""

    description = "Returns an attribute of a resource, a part of it, or all attributes as a map."
    _all_allowed = True

    def _parse(self) -> tuple[Any, Any, Any]:
        if not self.arguments:
            raise ValueError(
                f'Arguments to "{self.name}" can be of the next forms: [resource_name] or '
                "[resource_name, attribute, (path), ...]"
            )
        if not isinstance(self.arguments, Sequence):
            raise TypeError(f'Argument to "{self.name}" must be a list')
        if len(self.arguments) > 1:
            return super()._parse()
        return self.arguments[0], None, []

    def result(self) -> Any:
        return self._get([]) if self._attribute is None else super().result()


class GetFile(Function):
    """``get_file: key``."""

    description = "Returns the content of a file that came with the template."

    def result(self) -> Any:
        key = resolve(self.arguments)
        if not isinstance(key, str):
            raise TypeError(f'Argument to "{self.name}" must be a string')
        content = self.scope.files.get(key)
        if content is None:
            raise ValueError(f'No content found in the "files" section for {self.name} path: {key}')
        return spend(content)


class ResourceFacade(Function):
    """``resource_facade: metadata``: data of the parent resource, inside a nested stack.

    There are no nested stacks yet, so the arguments are checked and the result is an error.
    """

    description = "Returns data of the resource that a nested stack stands for."
    allowed: tuple[str, ...] = ("metadata", "deletion_policy", "update_policy")

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if resolve(arguments) not in self.allowed:
            raise ValueError(f'Incorrect arguments to "{name}" should be one of: {", ".join(self.allowed)}')

    def result(self) -> Any:
        raise ValueError(f'"{self.name}" has no value: this stack is not nested in another.')


class CfnResourceFacade(ResourceFacade):
    """``Fn::ResourceFacade`` of the first version of HOT."""

    allowed = ("Metadata", "DeletionPolicy", "UpdatePolicy")


class GetAZs(Function):
    """``Fn::GetAZs``: asks the compute service, which this engine does not have."""

    description = "Returns the availability zones."

    def result(self) -> Any:
        raise heat.ClientNotAvailable(client_name="nova")


def ref(scope: Scope, name: str, arguments: Any) -> Function:
    """Return what ``Ref`` stands for: a resource where there is one of that name, otherwise a parameter."""
    kind: Callable[[Scope, str, Any], Function] = GetResource if scope.has_resource(arguments) else ParamRef
    return kind(scope, name, arguments)
