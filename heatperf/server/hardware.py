"""What the machine, the container and the cgroups around this process grant it.

In: a directory that stands for / and the CPUs the scheduler allows. Out: a :class:`Hardware`, each fact with the file
it was read from. Raises nothing: a file that is missing, unreadable or not understood limits nothing. Reads files only;
runs in the supervisor and in ``heatperf hardware``.

Facts of the kernel that it rests on: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, cgroup_namespaces(7),
proc_pid_mountinfo(5), Documentation/admin-guide/cputopology.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Generic, TypeVar

T = TypeVar("T")

Cpus = frozenset[int]

# mountinfo of a host with thousands of containers is the largest file read here.
MAX_FILE = 16 * 1024 * 1024
# A value below /proc/sys.
MAX_SYSCTL = 4096
# The largest NR_CPUS that a kernel can be built with; a list that goes beyond is not a list of CPUs.
MAX_CPUS = 8192
# Without a limit v1 shows LONG_MAX rounded down to a page, 9223372036854771712 on most machines.
UNLIMITED = 1 << 60

_SIBLINGS = ("thread_siblings_list", "core_cpus_list")  # the older name first: every kernel has it


@dataclass(frozen=True)
class Found(Generic[T]):
    """One fact.

    :param value: None where nothing limits, or nothing was found
    :param source: file it was read from, as seen from the root; "" where none was found
    """

    value: T | None = None
    source: str = ""


@dataclass(frozen=True)
class Hardware:
    """
    :param online: CPUs the kernel schedules on
    :param affinity: CPUs this process may be scheduled on (taskset, and on a real machine the cpuset too)
    :param cpuset: CPUs of the cgroup
    :param quota: CPU time per wall time, in CPUs; the tightest of the cgroup and those above it
    :param cores: for every physical core in use the CPUs of it that are allowed
    :param nodes: NUMA node -> all its CPUs
    :param memory_limit: bytes; the tightest of the cgroup and those above it
    :param memory_total: bytes
    :param memory_available: bytes, as the kernel estimates them now
    """

    online: Found[Cpus] = Found()
    affinity: Found[Cpus] = Found()
    cpuset: Found[Cpus] = Found()
    quota: Found[Fraction] = Found()
    cores: Found[frozenset[Cpus]] = Found()
    nodes: Found[dict[int, Cpus]] = Found()
    memory_limit: Found[int] = Found()
    memory_total: Found[int] = Found()
    memory_available: Found[int] = Found()

    @property
    def allowed(self) -> Cpus:
        """CPUs that workers can run on; empty when no file tells.

        A set that has nothing in common with the others is wrong and counts for nothing: this process runs somewhere.
        """
        return _allowed(self.affinity, self.online, self.cpuset)

    @property
    def memory(self) -> int | None:
        """Bytes that this server can hope for: the cgroup's limit, and never more than the machine has."""
        known = [found.value for found in (self.memory_limit, self.memory_total) if found.value is not None]
        return min(known, default=None)


def read(root: str | os.PathLike[str] = "/", affinity: Collection[int] | None = None) -> Hardware:
    """
    :param root: directory that holds proc and sys; another than / shows a container (/proc/PID/root) or a copy
    :param affinity: allowed CPUs; default: those of this process if the root is /, or what proc/self/status there says
    """
    tree = Tree(root)
    online = tree.cpus("/sys/devices/system/cpu/online")
    allowed = _affinity(tree, affinity)
    groups = Groups(tree)
    cpuset = _cpuset(groups)
    total, available = _meminfo(tree)
    return Hardware(
        online=online,
        affinity=allowed,
        cpuset=cpuset,
        quota=_quota(groups),
        cores=_cores(tree, _allowed(allowed, online, cpuset)),
        nodes=_nodes(tree),
        memory_limit=_memory_limit(groups),
        memory_total=total,
        memory_available=available,
    )


class Tree:
    """Files under a root, none of which need exist.

    :param root: directory
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fspath(root)

    @property
    def is_this_machine(self) -> bool:
        """Whether calls to the kernel speak of the same machine and process as the files.

        By name only: the link /proc/PID/root reads "/" for a container too, and leads elsewhere.
        """
        return os.path.abspath(self._root) == "/"

    @cached_property
    def process(self) -> str:
        """The directory of a process that lives in this tree.

        In the proc of another PID namespace, self leads nowhere; its first process stands for the container.
        """
        return "/proc/self" if self.is_directory("/proc/self") else "/proc/1"

    def is_directory(self, path: str) -> bool:
        try:
            return os.path.isdir(self._place(path))
        except ValueError:  # a NUL
            return False

    def names(self, path: str) -> list[str]:
        """:returns: entries of a directory, sorted"""
        try:
            return sorted(os.listdir(self._place(path)))
        except (OSError, ValueError):
            return []

    def text(self, path: str, most: int = MAX_FILE) -> str:
        """
        :param most: bytes; /proc/sys refuses a read of more than the kernel can allocate in one piece (4 MiB or so)
        :returns: a file's content without white space around it, "" if it cannot be read
        """
        try:
            with open(self._place(path), "rb") as file:
                return os.fsdecode(file.read(most)).strip()
        except (OSError, ValueError):
            return ""

    def owner(self, path: str) -> int | None:
        """:returns: the user id that a file belongs to, None if it cannot be seen"""
        try:
            return os.stat(self._place(path)).st_uid
        except (OSError, ValueError):
            return None

    def cpus(self, path: str) -> Found[Cpus]:
        """A file that holds a list of CPUs; an empty list is as good as none."""
        cpus = parse_cpus(self.text(path))
        return Found(cpus, path) if cpus else Found()

    def _place(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))


class Groups:
    """The cgroups that this process is in: for each hierarchy its own directory and all above it.

    :param tree: where they are mounted
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._paths = dict(_own_groups(tree.text(f"{tree.process}/cgroup")))
        self._mounts = list(_mounts(tree.text(f"{tree.process}/mountinfo")))

    def levels(self, controller: str) -> list[str]:
        """
        :param controller: of v1, or "" for the one hierarchy of v2
        :returns: directories, the process's own first, the root of the mount last; none if it is not mounted
        """
        own = self._paths.get(controller, "/")
        mounts = [(root, point) for name, root, point in self._mounts if name == controller]
        if not mounts:  # or no mountinfo: where systemd and the container runtimes mount them
            mounts = [("/", place) for place in _usual_places(controller) if self.tree.is_directory(place)]
        for root, point in mounts:
            inside = _below(own, root)
            if inside is not None and self.tree.is_directory(point + inside):
                return [point + part for part in _upwards(inside)]
        # The path was told by a namespace other than the mount's, as in a container that has a namespace of its own but
        # the host's proc: what is mounted is the container's own group.
        return [mounts[0][1]] if mounts else []


def _own_groups(text: str) -> Iterator[tuple[str, str]]:
    """:returns: controller ("" is v2) and path, from /proc/PID/cgroup"""
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[2].startswith("/"):
            for controller in fields[1].split(","):
                yield controller, fields[2]


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """:returns: controller ("" is v2), the group that is mounted, and where, from /proc/PID/mountinfo"""
    for line in text.splitlines():
        mount, _dash, kind = line.partition(" - ")
        fields, kinds = mount.split(), kind.split()
        if len(fields) < 6 or not kinds:
            continue
        root, point = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text) for text in fields[3:5])
        if kinds[0] == "cgroup2":
            yield "", root, point.rstrip("/")
        elif kinds[0] == "cgroup" and len(kinds) == 3:
            for option in kinds[2].split(","):
                yield option, root, point.rstrip("/")


def _usual_places(controller: str) -> list[str]:
    if not controller:
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
    return [f"/sys/fs/cgroup/{name}" for name in (controller, f"{controller},cpuacct")]


def _below(path: str, root: str) -> str | None:
    """:returns: a group's path within a mount that shows ``root``: "", "/a", "/a/b"; None if it is not in there

    Paths begin with /.. for groups outside of the namespace that they are told to.
    """
    if root != "/":
        if not f"{path}/".startswith(f"{root}/"):
            return None
        path = path.removeprefix(root)
    return None if ".." in path.split("/") else path.rstrip("/")


def _upwards(path: str) -> Iterator[str]:
    """:returns: "/a/b", "/a", "" """
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _affinity(tree: Tree, given: Collection[int] | None) -> Found[Cpus]:
    if given is not None:
        return Found(frozenset(given) or None, "sched_getaffinity")
    if tree.is_this_machine:
        try:
            return Found(frozenset(os.sched_getaffinity(0)), "sched_getaffinity")
        except OSError:  # forbidden by a seccomp filter
            pass
    path = f"{tree.process}/status"
    lists = re.findall(r"^Cpus_allowed_list:\s*(\S+)$", tree.text(path), re.MULTILINE)
    cpus = parse_cpus(lists[0]) if lists else None
    return Found(cpus, path) if cpus else Found()


def _allowed(*sets: Found[Cpus]) -> Cpus:
    allowed: Cpus = frozenset()
    for found in sets:
        if found.value:
            allowed = (allowed & found.value) or allowed or found.value
    return allowed


def _cpuset(groups: Groups) -> Found[Cpus]:
    """A list that is empty, or that is not there because the controller is off, is inherited from above."""
    for controller, name in (("", "cpuset.cpus.effective"), ("cpuset", "cpuset.cpus")):
        for directory in groups.levels(controller):
            found = groups.tree.cpus(f"{directory}/{name}")
            if found.value:
                return found
    return Found()


def _quota(groups: Groups) -> Found[Fraction]:
    return _tightest(groups, ("", _cpu_max), ("cpu", _cfs_quota))


def _cpu_max(tree: Tree, directory: str) -> Found[Fraction]:
    path = f"{directory}/cpu.max"
    fields = tree.text(path).split()
    if not fields:
        return Found()
    return Found(_ratio(fields[0], fields[1] if len(fields) > 1 else "100000"), path)


def _cfs_quota(tree: Tree, directory: str) -> Found[Fraction]:
    path = f"{directory}/cpu.cfs_quota_us"
    quota = tree.text(path)
    return Found(_ratio(quota, tree.text(f"{directory}/cpu.cfs_period_us")), path) if quota else Found()


def _ratio(quota: str, period: str) -> Fraction | None:
    """None for "max" of v2 and -1 of v1, as for nonsense."""
    above, below = parse_number(quota), parse_number(period)
    return Fraction(above, below) if above and below else None


def _memory_limit(groups: Groups) -> Found[int]:
    return _tightest(
        groups,
        ("", _bytes("memory.max")),
        # Above this one nothing is killed, but everything is slowed down until memory is given back.
        ("", _bytes("memory.high")),
        # That of v1 counts for groups below since Linux 5.11, and before it wherever systemd made them (use_hierarchy).
        ("memory", _bytes("memory.limit_in_bytes")),
    )


def _bytes(name: str) -> Callable[[Tree, str], Found[int]]:
    def limit(tree: Tree, directory: str) -> Found[int]:
        path = f"{directory}/{name}"
        text = tree.text(path)
        number = parse_number(text)
        return Found(number if number and number < UNLIMITED else None, path) if text else Found()

    return limit


def _tightest(groups: Groups, *readers: tuple[str, Callable[[Tree, str], Found[T]]]) -> Found[T]:
    """The smallest value in the cgroup and all above it; without any, the first file that says there is none.

    In a hybrid set-up a controller is on v1 or on v2, and only there has files.
    """
    found = [
        reader(groups.tree, directory) for controller, reader in readers for directory in groups.levels(controller)
    ]
    limits = [each for each in found if each.value is not None]
    if limits:
        return min(limits, key=lambda each: each.value)  # type: ignore[arg-type, return-value]
    return next((each for each in found if each.source), Found())


def _cores(tree: Tree, allowed: Cpus) -> Found[frozenset[Cpus]]:
    """Nothing unless every CPU tells its siblings: half a topology would be a wrong one."""
    cores, source = set(), ""
    for cpu in allowed:
        for name in _SIBLINGS:
            siblings = tree.cpus(f"/sys/devices/system/cpu/cpu{cpu}/topology/{name}")
            if siblings.value and cpu in siblings.value:
                cores.add(siblings.value & allowed)
                source = f"/sys/devices/system/cpu/cpu*/topology/{name}"
                break
        else:
            return Found()
    return Found(frozenset(cores), source) if cores else Found()


def _nodes(tree: Tree) -> Found[dict[int, Cpus]]:
    """Nodes with CPUs; those of memory alone (CXL, HBM) do not count."""
    numbers = [parse_number(name[4:]) for name in tree.names("/sys/devices/system/node") if name.startswith("node")]
    nodes = {
        number: cpus
        for number in sorted(number for number in numbers if number is not None)
        if (cpus := tree.cpus(f"/sys/devices/system/node/node{number}/cpulist").value)
    }
    return Found(nodes, "/sys/devices/system/node/node*/cpulist") if nodes else Found()


def _meminfo(tree: Tree) -> tuple[Found[int], Found[int]]:
    """:returns: MemTotal and MemAvailable in bytes"""
    text = tree.text("/proc/meminfo")
    lines = dict(re.findall(r"^(Mem\w+):\s*(\S+) kB$", text, re.MULTILINE))

    def fact(name: str) -> Found[int]:
        kilobytes = parse_number(lines.get(name, ""))
        return Found(kilobytes * 1024, "/proc/meminfo") if kilobytes else Found()

    return fact("MemTotal"), fact("MemAvailable")


def parse_number(text: str) -> int | None:
    """:returns: a number of at most 64 bits or so; None for anything else ("max", "-1", nothing)"""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def parse_cpus(text: str) -> Cpus | None:
    """
    :param text: the kernel's notation, "0-3,8,10-11"
    :returns: None if it is empty or not such a list
    """
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low = parse_number(first)
        high = parse_number(last) if dash else low
        if low is None or high is None or not low <= high < MAX_CPUS:
            return None
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def show_cpus(cpus: Collection[int]) -> str:
    """:returns: the kernel's notation, "0-3,8" """
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
