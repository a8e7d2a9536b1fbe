"""Fake /proc and /sys trees, as small as the kernel's answers allow, for tests of sizing."""

import pathlib

GIB = 1024**3
#: What memory.limit_in_bytes says where there is no limit.
V1_UNLIMITED = "9223372036854771712"


def write(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    """Write files, named as seen from the root; returns the root."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.endswith("\n") else f"{text}\n")
    return root


def machine(
    root: pathlib.Path, cpus: int, *, smt: int = 1, nodes: int = 1, memory: int = 64 * GIB, allowed: str | None = None
) -> pathlib.Path:
    """Hardware without cgroups.

    :param smt: threads per core, numbered as Intel does: CPU 0 and CPU cpus/smt are siblings
    :param nodes: NUMA nodes of consecutive CPUs
    :param allowed: affinity as the process's own status tells it
    """
    cores = cpus // smt
    files = {
        "/sys/devices/system/cpu/online": f"0-{cpus - 1}",
        "/proc/meminfo": f"MemTotal:       {memory // 1024} kB\nMemFree: 1 kB\nMemAvailable:   {memory // 2048} kB",
        "/proc/self/status": f"Name:\theatperf\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed or f'0-{cpus - 1}'}",
        "/sys/devices/system/node/online": "0",
        "/sys/devices/system/node/power/control": "auto",
    }
    for cpu in range(cpus):
        siblings = ",".join(str(cpu % cores + cores * thread) for thread in range(smt))
        files[f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = siblings
    each = cpus // nodes
    for node in range(nodes):
        files[f"/sys/devices/system/node/node{node}/cpulist"] = f"{node * each}-{node * each + each - 1}"
    return write(root, files)


def cgroup_v2(
    root: pathlib.Path,
    groups: dict[str, dict[str, str]],
    *,
    own: str = "/",
    shown: str = "/",
    point: str = "/sys/fs/cgroup",
) -> pathlib.Path:
    """The unified hierarchy.

    :param groups: path below the mount -> file -> content
    :param own: path in /proc/self/cgroup
    :param shown: group that is mounted, as mountinfo tells
    :param point: where, as mountinfo escapes it
    """
    place = point.replace(r"\040", " ")
    files = {
        "/proc/self/cgroup": f"0::{own}",
        "/proc/self/mountinfo": (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            f"30 22 0:26 {shown} {point} ro,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate"
        ),
    }
    for group, contents in groups.items():
        for name, text in contents.items():
            files[f"{place}{group.rstrip('/')}/{name}"] = text
    return write(root, files)


def cgroup_v1(
    root: pathlib.Path,
    groups: dict[str, dict[str, dict[str, str]]],
    *,
    own: str = "/",
    shown: str = "/",
) -> pathlib.Path:
    """Hierarchies as systemd mounts them, cpu together with cpuacct, and an idle unified one beside them.

    :param groups: controller -> path below its mount -> file -> content
    """
    names = {"cpu": "cpu,cpuacct", "cpuset": "cpuset", "memory": "memory"}
    lines = [f"{number}:{name}:{own}" for number, name in enumerate(names.values(), 2)]
    mounts = [
        f"3{number} 22 0:2{number} {shown} /sys/fs/cgroup/{name} ro - cgroup cgroup rw,{name}"
        for number, name in enumerate(names.values())
    ]
    files = {
        "/proc/self/cgroup": "\n".join([*lines, "1:name=systemd:/init.scope", f"0::{own}"]),
        "/proc/self/mountinfo": "\n".join([*mounts, "39 22 0:29 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw"]),
        "/sys/fs/cgroup/unified/cgroup.controllers": "",
    }
    for controller, paths in groups.items():
        for group, contents in paths.items():
            for name, text in contents.items():
                files[f"/sys/fs/cgroup/{names[controller]}{group.rstrip('/')}/{name}"] = text
    return write(root, files)
