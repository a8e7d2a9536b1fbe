"""The ways heatperf can be put together, by dimension: what the recorded cases are replayed on besides its variants.

A dimension is a choice that no client may notice: how a worker waits, how it reaches the engine, whose stations the
pipeline has. A new loop, transport or set of stations is one entry in DIMENSIONS; everything else follows from it.
The first value of a dimension is the one heatperf has by default. Loops whose library is not installed are left out.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from heatperf import loops


@dataclass(frozen=True)
class Value:
    """How ``heatperf serve`` is told to make this choice: arguments, and options per group as in heat.conf."""

    arguments: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


DIMENSIONS: dict[str, dict[str, Value]] = {
    "loop": {name: Value(("--loop", name)) for name in loops.available()},
    "transport": {"lean": Value(), "oslo": Value(settings={"heatperf": {"rpc_transport": "oslo"}})},
    "stations": {"lean": Value(), "stock": Value(settings={"heatperf": {"stock_filters": "all"}})},
}


@dataclass(frozen=True)
class Combination:
    """One value per dimension, in the order of DIMENSIONS."""

    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """Like ``gevent-oslo-lean``."""
        return "-".join(self.values)

    @property
    def arguments(self) -> list[str]:
        """For ``heatperf serve``."""
        return [argument for value in self._chosen() for argument in value.arguments]

    @property
    def heat_conf(self) -> str:
        """A further configuration file; empty where nothing needs one."""
        groups: dict[str, dict[str, str]] = {}
        for value in self._chosen():
            for group, options in value.settings.items():
                groups.setdefault(group, {}).update(options)
        return "".join(
            f"[{group}]\n" + "".join(f"{name} = {text}\n" for name, text in options.items())
            for group, options in groups.items()
        )

    def _chosen(self) -> list[Value]:
        return [DIMENSIONS[dimension][value] for dimension, value in zip(DIMENSIONS, self.values, strict=True)]


def everything() -> list[Combination]:
    """Every combination, the default one first."""
    return [Combination(values) for values in itertools.product(*DIMENSIONS.values())]


DEFAULT = everything()[0]


def neighbours() -> list[Combination]:
    """The combinations that differ from the default one in one dimension: every value there is, once."""
    return [
        combination
        for combination in everything()
        if sum(mine != usual for mine, usual in zip(combination.values, DEFAULT.values, strict=True)) == 1
    ]


def chosen(text: str) -> list[Combination]:
    """The combinations that MATRIX names: ``default``, ``all``, or pairs like ``loop=gevent,transport=oslo``.

    A dimension that the pairs do not name keeps its default; ``loop=*`` stands for all of its values.

    :raises ValueError: no such dimension or value; the text says which there are
    """
    if text == "all":
        return everything()
    ranges = [[value] for value in DEFAULT.values]
    for pair in [] if text == "default" else text.split(","):
        dimension, _, value = pair.partition("=")
        if dimension not in DIMENSIONS:
            raise ValueError(f"no such dimension: {dimension}; there are {', '.join(DIMENSIONS)}, default and all")
        values = DIMENSIONS[dimension]
        if value != "*" and value not in values:
            raise ValueError(f"no such {dimension}: {value}; there are {', '.join(values)} and *")
        ranges[list(DIMENSIONS).index(dimension)] = list(values) if value == "*" else [value]
    return [Combination(values) for values in itertools.product(*ranges)]
