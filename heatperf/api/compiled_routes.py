"""The table of routes as a machine: one dictionary look-up per segment of the path, whatever the number of routes.

In: routes in their order of matching, with Routes' patterns and method conditions; then a method and a path. Out: the
route that ``routes.Mapper`` would choose, and the path's variables. Built before the fork, asked on the worker's loop.

A path leads from state to state, as in the subset construction of a finite automaton: a state stands for all routes
that still fit, so nothing is tried twice. For each of the usual methods a state knows the first of its routes that the
path is complete for. ``find`` answers for those methods and for paths of one line; the rest is the Mapper's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

#: The methods ``find`` knows. Routes compares others by substring: "GE" is a GET, "" is anything.
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))

_VARIABLE = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
_CHOICE = re.compile(r"\w+(?:\|\w+)*")
_REST = re.compile(r"((?:\w|\\x3A)+)\.\*")


@dataclass(frozen=True)
class Entry:
    """One route as it is given to ``routes.Mapper.connect``.

    :param condition: the methods, as Routes takes them: text to look in, or a list
    :param constants: what Routes adds to the path's variables: controller, action, allowed_methods
    """

    name: str | None
    path: str
    condition: str | list[str]
    constants: dict[str, Any]


class _Segment(NamedTuple):
    """One segment of a pattern: some words, any text, or (``rest``) text that begins like this and all after it."""

    words: frozenset[str] | None
    name: str | None = None
    rest: str | None = None

    def takes(self, text: str) -> bool:
        if self.rest is not None:
            return text.startswith(self.rest)
        return text in self.words if self.words is not None else text != ""


class Target:
    """What a complete path leads to.

    :param variables: name and number of the segment, the leading empty one being number 0
    :param rest: the variable that takes all segments from a number on, or None
    """

    __slots__ = ("action", "constants", "controller", "rest", "variables")

    def __init__(self, entry: Entry, variables: tuple[tuple[str, int], ...], rest: tuple[str, int] | None) -> None:
        self.variables = variables
        self.rest = rest
        #: what Routes adds to the path's variables
        self.constants = dict(entry.constants)
        self.controller: str = self.constants.pop("controller")
        self.action: Any = self.constants.pop("action")


class _State:
    """Where a path may stand after some segments."""

    __slots__ = ("beginnings", "final", "other", "targets", "words")

    def __init__(self) -> None:
        #: segment -> next state, for the empty segment and those that some pattern names
        self.words: dict[str, _State] = {}
        #: (beginning, next state) for other segments that begin so
        self.beginnings: tuple[tuple[str, _State], ...] = ()
        #: for all other segments
        self.other: _State = self
        #: method -> what a path that ends here leads to
        self.targets: dict[str, Target] = {}
        #: nothing that follows changes the answer any more
        self.final = False


_REST_OF_PATH = -1
# Routes that still fit: number of the entry and of its next segment, or _REST_OF_PATH.
_Items = frozenset[tuple[int, int]]


def parse(path: str) -> list[_Segment]:
    """Take a pattern of Routes apart.

    :raises ValueError: it holds something this module does not know
    """
    segments = []
    for text in path.split("/")[1:]:
        match = _VARIABLE.fullmatch(text)
        if match is None:
            if not text or not re.fullmatch(r"\w+", text):
                raise ValueError(f"the segment {text!r} of {path!r} is neither word nor variable")
            segments.append(_Segment(frozenset((text,))))
            continue
        name, pattern = match.groups()
        if pattern is None:
            segments.append(_Segment(None, name))
        elif _CHOICE.fullmatch(pattern):
            segments.append(_Segment(frozenset(pattern.split("|")), name))
        elif rest := _REST.fullmatch(pattern):
            segments.append(_Segment(None, name, rest[1].replace(r"\x3A", ":")))
        else:
            raise ValueError(f"the pattern {pattern!r} of {path!r} is none that can be compiled")
    if any(segment.rest is not None for segment in segments[:-1]):
        raise ValueError(f"something follows the rest of {path!r}")
    return segments


class CompiledRoutes:
    """All routes.

    :param entries: the routes, the first that fits wins
    :raises ValueError: a pattern cannot be compiled
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)
        self._patterns = [parse(entry.path) for entry in self._entries]
        self._states: dict[_Items, _State] = {}
        self._root = self._state(frozenset((number, 0) for number in range(len(self._entries))))
        # One more than any pattern: what is longer can only be the rest of a path, and need not be taken apart.
        self._splits = max(len(pattern) for pattern in self._patterns) + 1

    def find(self, method: str, path: str) -> tuple[Target, dict[str, str]] | None:
        """Return the route and the path's variables, None where nothing fits.

        :param method: one of METHODS
        :param path: PATH_INFO without a newline
        """
        parts = path.split("/", self._splits)
        state = self._root
        if parts[0]:
            return None
        segments = iter(parts)
        next(segments)
        for text in segments:
            following = state.words.get(text)
            if following is None:
                following = state.other
                for beginning, special in state.beginnings:
                    if text.startswith(beginning):
                        following = special
            state = following
            if state.final:
                break
        target = state.targets.get(method)
        if target is None:
            return None
        variables = {name: parts[number] for name, number in target.variables}
        if target.rest is not None:
            name, number = target.rest
            variables[name] = "/".join(parts[number:])
        return target, variables

    def _state(self, items: _Items) -> _State:
        known = self._states.get(items)
        if known is not None:
            return known
        state = self._states[items] = _State()
        segments = [self._patterns[number][at] for number, at in items if 0 <= at < len(self._patterns[number])]
        words = {word for segment in segments for word in segment.words or ()}
        beginnings = {segment.rest for segment in segments if segment.rest is not None}
        state.targets = self._targets(items)
        state.final = all(at == _REST_OF_PATH for _, at in items)
        if state.final:
            return state
        # Any segment that no pattern names stands for all of them; the longest beginning is tried last and wins.
        state.words = {word: self._after(items, word) for word in words | {""}}
        state.other = self._after(items, "\0")
        state.beginnings = tuple((text, self._after(items, text)) for text in sorted(beginnings, key=len))
        return state

    def _after(self, items: _Items, text: str) -> _State:
        found = set()
        for number, at in items:
            pattern = self._patterns[number]
            if at == _REST_OF_PATH:
                found.add((number, at))
            elif at < len(pattern) and pattern[at].takes(text):
                found.add((number, at + 1 if pattern[at].rest is None else _REST_OF_PATH))
        return self._state(frozenset(found))

    def _targets(self, items: _Items) -> dict[str, Target]:
        complete = sorted(number for number, at in items if at in (_REST_OF_PATH, len(self._patterns[number])))
        targets = {}
        for method in METHODS:
            for number in complete:
                if method in self._entries[number].condition:  # the very comparison that Routes makes
                    targets[method] = self._target(number)
                    break
        return targets

    def _target(self, number: int) -> Target:
        variables: list[tuple[str, int]] = []
        rest: tuple[str, int] | None = None
        for at, segment in enumerate(self._patterns[number], 1):
            if segment.rest is not None and segment.name:
                rest = (segment.name, at)
            elif segment.name:
                variables.append((segment.name, at))
        return Target(self._entries[number], tuple(variables), rest)
