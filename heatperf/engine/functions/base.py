"""What every intrinsic function has in common, and the walks over snippets that hold functions.

Comes in: snippets of a document in which template.parse has put Function objects in place of ``{name: arguments}``.
Goes out: plain values, names of resources. Functions raise TypeError, ValueError or KeyError for wrong arguments, as
upstream's do, since callers tell them apart by class; and errors.heat classes for wrong references.
Runs in the engine's worker threads; a Function belongs to one Bound and keeps no state of a call.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from heatperf.engine import limits
from heatperf.errors import heat

if TYPE_CHECKING:
    from heatperf.engine.conditions import Conditions


class AttributeSource(Protocol):
    """What functions ask of the resources of a stack. The lifecycle part implements it."""

    def get_reference(self, resource_name: str) -> Any:
        """Return what ``get_resource`` resolves to; the resource's name as long as nothing better is known."""

    def get_attr(self, resource_name: str, path: Sequence[Any]) -> Any:
        """Return an attribute: ``path[0]`` its name, the rest selects inside its value (see select).

        An empty path asks for all attributes as a map, without ``show``. None while the resource is not there yet.

        :raises KeyError: there is no such attribute
        """

    def attribute_names(self, resource_name: str) -> Collection[str]:
        """Return the names of the attributes that the resource's type has."""


class Scope(Protocol):
    """What a function may know of the stack it is part of; template.Bound is the one there is."""

    attributes: AttributeSource

    @property
    def limits(self) -> limits.Limits: ...

    @property
    def files(self) -> Mapping[str, str]: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    @property
    def conditions(self) -> "Conditions": ...

    def has_resource(self, name: Any) -> bool:
        """Tell whether the template has a resource of this name whose condition holds."""

    def parse_condition(self, snippet: Any, path: str) -> Any:
        """Put Function objects into a snippet of a condition."""


class Function:
    """One use of a function in a template.

    :param scope: the stack it is part of
    :param name: as in the template
    :param arguments: with Function objects inside
    :raises TypeError, ValueError, KeyError: arguments are wrong in a way that can be seen without resolving them
    """

    #: One sentence for list_template_functions.
    description = ""

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        self.scope = scope
        self.name = name
        self.arguments = arguments

    def validate(self) -> None:
        """Check arguments as far as that goes without resolving them."""
        validate(self.arguments)

    def result(self) -> Any:
        """Return the value that the function stands for."""
        raise NotImplementedError

    def dependencies(self, path: str) -> Iterator[str]:
        """Yield names of the resources that must be there before the function can be resolved.

        :param path: where the function stands, for the message
        :raises heat.InvalidTemplateReference: one does not exist
        """
        yield from dependencies(self.arguments, f"{path}.{self.name}")

    def __eq__(self, other: object) -> bool:
        """Compare by result: a function stands for its value."""
        mine = self.result()
        return bool(mine == (other.result() if isinstance(other, Function) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr({self.name: self.arguments})


class Macro(Function):
    """A function that decides which part of its arguments is parsed at all.

    :param parse: puts functions into a snippet that stands inside the macro
    """

    def __init__(self, scope: Scope, name: str, arguments: Any, parse: Callable[[Any], Any]) -> None:
        super().__init__(scope, name, arguments)
        self.parsed = self.expand(parse)

    def expand(self, parse: Callable[[Any], Any]) -> Any:
        """Return the parsed part."""
        raise NotImplementedError

    def validate(self) -> None:
        validate(self.parsed)

    def result(self) -> Any:
        return resolve(self.parsed, nullable=True)

    def dependencies(self, path: str) -> Iterator[str]:
        yield from dependencies(self.parsed, f"{path}.{self.name}")


class Invalid(Function):
    """Stands for a function that exists but not where it was used: inside a condition."""

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        raise ValueError(f'The function "{name}" is invalid in this context')


class Removed(Function):
    """Stands for a function that older versions of HOT had."""

    def validate(self) -> None:
        raise heat.InvalidTemplateVersion(
            explanation=f"The function {self.name} is not supported in this version of HOT."
        )

    def result(self) -> Any:
        return {self.name: self.arguments}


def resolve(snippet: Any, nullable: bool = False) -> Any:
    """Return the snippet with every function replaced by its value.

    :param nullable: whether Ellipsis may come out, which says "as if it were not there" (an ``if`` without else)
    """
    if isinstance(snippet, Function):
        result = snippet.result()
        return None if result is Ellipsis and not nullable else result
    if isinstance(snippet, Mapping):
        pairs = ((key, resolve(value, nullable=True)) for key, value in snippet.items())
        return {key: value for key, value in pairs if value is not Ellipsis}
    if isinstance(snippet, (list, tuple)):
        values = (resolve(value, nullable=True) for value in snippet)
        return [value for value in values if value is not Ellipsis]
    return snippet


def validate(snippet: Any, path: list[str] | None = None) -> None:
    """Check every function in a snippet.

    :param path: where the snippet stands
    :raises heat.StackValidationFailed: naming the function's place
    """
    here = path or []
    if isinstance(snippet, Function):
        try:
            snippet.validate()
        except Exception as error:
            raise heat.StackValidationFailed(path=[*here, snippet.name], message=str(error)) from error
    elif isinstance(snippet, Mapping):
        for key, value in snippet.items():
            validate(value, [*here, str(key)])
    elif isinstance(snippet, (list, tuple)):
        parent = here[-1] if here else ""
        for index, value in enumerate(snippet):
            validate(value, [*here[:-1], f"{parent}[{index}]"])


def dependencies(snippet: Any, path: str = "") -> Iterator[str]:
    """Yield the names of the resources that the functions in a snippet refer to, with repetitions.

    :raises heat.InvalidTemplateReference: one does not exist
    """
    if isinstance(snippet, Function):
        yield from snippet.dependencies(path)
    elif isinstance(snippet, Mapping):
        for key, value in snippet.items():
            yield from dependencies(value, f"{path}.{key}")
    elif isinstance(snippet, (list, tuple)):
        for index, value in enumerate(snippet):
            yield from dependencies(value, f"{path}[{index}]")


def select(value: Any, path: Sequence[Any]) -> Any:
    """Return the part of an attribute's value that ``path`` leads to, None where it leads nowhere."""
    for key in path:
        if not isinstance(value, (Mapping, Sequence)) or not isinstance(key, (str, int)):
            return None
        try:
            value = value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def spend(value: Any) -> Any:
    """Charge ``value`` to the budget of the running call and return it."""
    meter = limits.budget()
    meter.spend(weigh_for(meter, value))
    return value


def weigh_for(meter: limits.Budget, value: Any) -> int:
    """Return what ``value`` costs, as far as it matters to this budget."""
    return limits.weigh(value, meter.limits.resolved)


def is_list(value: Any) -> bool:
    """Tell whether ``value`` is a sequence other than a text."""
    return isinstance(value, Sequence) and not isinstance(value, str)
