"""The dependency graph of a stack's resources.

Comes in: names of resources and who requires whom. Goes out: an order in which they can be created (reversed: deleted).
Raises CircularDependencyException with the text clients know. Plain data, no threads.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator

from heatperf.errors import heat


class Graph:
    """Who requires whom. Names keep the order in which they were added, so the same template gives the same order.

    :param label: how a name is written in the message about a cycle
    """

    def __init__(self, label: Callable[[str], str] = str) -> None:
        self._label = label
        # dictionaries with None as values: sets that keep their order
        self._requires: dict[str, dict[str, None]] = {}
        self._required_by: dict[str, dict[str, None]] = {}

    def add(self, name: str, requires: Iterable[str] = ()) -> None:
        """Add a node, and edges from it to what it requires."""
        for needed in requires:
            self._node(needed)
            self._required_by[needed][name] = None
            self._node(name)
            self._requires[name][needed] = None
        self._node(name)

    def _node(self, name: str) -> None:
        self._requires.setdefault(name, {})
        self._required_by.setdefault(name, {})

    def __contains__(self, name: object) -> bool:
        return name in self._requires

    def __len__(self) -> int:
        return len(self._requires)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, each after all that it requires.

        :raises heat.CircularDependencyException: some require each other
        """
        return self._sorted(self._requires, self._required_by)

    def __reversed__(self) -> Iterator[str]:
        """Yield the names, each after all that require it.

        :raises heat.CircularDependencyException: some require each other
        """
        return self._sorted(self._required_by, self._requires)

    def requires(self, name: str) -> list[str]:
        """Return what a node requires directly.

        :raises KeyError: there is no such node
        """
        return list(self._requires[name])

    def required_by(self, name: str) -> list[str]:
        """Return what requires a node directly.

        :raises KeyError: there is no such node
        """
        return list(self._required_by[name])

    def _sorted(self, requires: dict[str, dict[str, None]], users: dict[str, dict[str, None]]) -> Iterator[str]:
        order = {name: index for index, name in enumerate(requires)}
        waiting = {name: len(needed) for name, needed in requires.items()}
        ready = [order[name] for name, count in waiting.items() if not count]
        heapq.heapify(ready)
        names = list(requires)
        while ready:
            name = names[heapq.heappop(ready)]
            del waiting[name]
            yield name
            for user in users[name]:
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, order[user])
        if waiting:
            raise heat.CircularDependencyException(cycle=self._text(requires, waiting))

    def _text(self, requires: dict[str, dict[str, None]], left: dict[str, int]) -> str:
        """Write the nodes that are left as upstream does: ``{a: {b}, b: {a}}``."""
        nodes = (
            f"{self._label(name)}: {{{', '.join(self._label(needed) for needed in requires[name] if needed in left)}}}"
            for name in requires
            if name in left
        )
        return f"{{{', '.join(nodes)}}}"
