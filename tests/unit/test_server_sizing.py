"""The number of workers, on fake trees of the kernel's files and on this machine."""

import os
import pathlib
import tempfile

import pytest
from hardware_trees import GIB, V1_UNLIMITED, cgroup_v1, cgroup_v2, machine, write
from hypothesis import given, settings
from hypothesis import strategies as st

from heatperf import cli
from heatperf.server import hardware
from heatperf.server.hardware import Hardware, parse_cpus, show_cpus
from heatperf.server.sizing import MIB, PER_WORKER, RESERVE, table, usable_cpus, workers_for

FITS_TWELVE = RESERVE + 12 * PER_WORKER


def auto(root, affinity=None):
    return workers_for("auto", hardware.read(root, affinity))


def row(text, name):
    """What the table says of one thing: the rest of its line."""
    [line] = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).strip()


class TestBareMetal:
    def test_one_worker_for_each_cpu(self, tmp_path):
        machine(tmp_path, 8)
        assert auto(tmp_path) == (8, "8 workers: 8 CPUs online, memory for 652; the CPUs decide")

    def test_threads_of_a_core_count_and_are_named(self, tmp_path):
        machine(tmp_path, 16, smt=2, nodes=2, memory=8 * GIB)
        count, why = auto(tmp_path)
        assert count == 16
        assert why == (
            "16 workers: 16 CPUs online, 8 cores with SMT 2, 2 NUMA nodes, memory for 79; the CPUs decide"
        )  # fmt: skip

    def test_affinity(self, tmp_path):
        """One thread of each core: then there is no SMT to speak of, and one node only."""
        machine(tmp_path, 16, smt=2, nodes=2, allowed="0-3")
        assert auto(tmp_path)[1].startswith("4 workers: 4 CPUs allowed (affinity), memory for")
        assert row(table(hardware.read(tmp_path)), "physical cores").startswith("4 cores  ")
        assert auto(tmp_path, {0, 8})[1].startswith("2 workers: 2 CPUs allowed (affinity), 1 core with SMT 2, 2 NUMA")

    def test_affinity_to_cpus_that_are_offline(self, tmp_path):
        machine(tmp_path, 4, allowed="0-127")
        assert auto(tmp_path)[1].startswith("4 workers: 4 CPUs online")
        cgroup_v2(tmp_path, {"/": {"cpuset.cpus.effective": "0-3"}})
        assert auto(tmp_path, range(2, 128))[1].startswith("2 workers: 2 CPUs allowed (affinity),")

    def test_older_and_newer_names_of_siblings(self, tmp_path):
        machine(tmp_path, 4, smt=2)
        for cpu in range(4):
            topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
            (topology / "thread_siblings_list").rename(topology / "core_cpus_list")
        assert "2 cores with SMT 2" in auto(tmp_path)[1]
        (tmp_path / "sys/devices/system/cpu/cpu3/topology/core_cpus_list").unlink()
        assert "core" not in auto(tmp_path)[1]

    def test_no_cgroup_mount(self, tmp_path):
        machine(tmp_path, 4)
        write(tmp_path, {"/proc/self/cgroup": "0::/user.slice", "/proc/self/mountinfo": "22 1 8:1 / / rw - ext4 a rw"})
        assert auto(tmp_path)[0] == 4

    def test_nothing_at_all(self, tmp_path):
        assert auto(tmp_path) == (1, "1 worker: number of CPUs unknown; one is the least")


class TestVersionTwo:
    def test_quota_of_a_container_is_rounded_up(self, tmp_path):
        cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": "250000 100000", "memory.max": "max"}})
        assert auto(tmp_path) == (
            3,
            "3 workers: 8 CPUs online, cgroup quota 2.5, memory for 652; the quota decides",
        )

    @pytest.mark.parametrize(
        ("quota", "count", "shown"),
        [("600000 100000", 6, "6.0"), ("600001 100000", 7, "6.01"), ("1000 1000000", 1, "0.01"), ("75000", 1, "0.75")],
    )
    def test_quotas(self, tmp_path, quota, count, shown):
        cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": quota}})
        assert auto(tmp_path)[0] == count
        assert f"cgroup quota {shown}," in auto(tmp_path)[1]

    def test_the_tightest_of_the_nested_counts(self, tmp_path):
        cgroup_v2(
            machine(tmp_path, 16),
            {
                "/": {},
                "/api.slice": {"cpu.max": "300000 100000", "memory.max": str(4 * GIB)},
                "/api.slice/heat.slice": {"cpu.max": "1000000 100000", "memory.max": "max"},
                "/api.slice/heat.slice/api.service": {"cpu.max": "max 100000", "memory.max": str(8 * GIB)},
                "/other.slice": {"cpu.max": "100000 100000"},
            },
            own="/api.slice/heat.slice/api.service",
        )
        found = hardware.read(tmp_path)
        assert found.quota.source == "/sys/fs/cgroup/api.slice/cpu.max"
        assert found.memory_limit == hardware.Found(4 * GIB, "/sys/fs/cgroup/api.slice/memory.max")
        assert workers_for(0, found)[0] == 3

    @pytest.mark.parametrize(
        ("own", "shown"),
        [
            ("/system.slice/docker-1.scope", "/"),  # the host's path, a namespace of its own: nothing there under it
            ("/../other", "/"),  # moved out of the namespace
            ("/docker/1", "/docker/1"),  # no namespace: the mount shows the container's group only
            ("/docker/1/../2", "/docker/1"),
            ("/", "/docker/1"),
            ("/docker/12", "/docker/1"),
        ],
    )
    def test_paths_that_another_namespace_told(self, tmp_path, own, shown):
        cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": "200000 100000"}}, own=own, shown=shown)
        # What careless arithmetic with paths would read.
        for decoy in ("other", "2", "cgroup2", "cgroup/docker/12", "cgroup/2"):
            write(tmp_path, {f"/sys/fs/{decoy}/cpu.max": "100000 100000"})
        assert auto(tmp_path)[0] == 2

    def test_group_below_the_one_that_is_mounted(self, tmp_path):
        groups = {"/": {"cpu.max": "400000 100000"}, "/api": {"cpu.max": "200000 100000"}}
        cgroup_v2(machine(tmp_path, 8), groups, own="/docker/1/api", shown="/docker/1")
        assert hardware.read(tmp_path).quota.source == "/sys/fs/cgroup/api/cpu.max"

    def test_mounted_elsewhere(self, tmp_path):
        cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": "200000 100000"}}, point=r"/run/c\040g")
        assert auto(tmp_path)[0] == 2

    def test_without_mountinfo(self, tmp_path):
        cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": "200000 100000"}})
        (tmp_path / "proc/self/mountinfo").unlink()
        assert auto(tmp_path)[0] == 2

    def test_process_one_stands_for_a_container(self, tmp_path):
        """As with --root /proc/PID/root, where self belongs to another PID namespace."""
        cgroup_v2(machine(tmp_path, 8, allowed="0-3"), {"/": {"cpu.max": "max 100000"}})
        (tmp_path / "proc/self").rename(tmp_path / "proc/1")
        found = hardware.read(tmp_path)
        assert found.affinity == hardware.Found(frozenset(range(4)), "/proc/1/status")
        assert found.quota == hardware.Found(None, "/sys/fs/cgroup/cpu.max")

    def test_cpuset_smaller_than_affinity(self, tmp_path):
        cgroup_v2(machine(tmp_path, 8), {"/": {}, "/a": {"cpuset.cpus.effective": "2-3,5"}}, own="/a")
        assert auto(tmp_path, range(8))[1].startswith("3 workers: 3 CPUs allowed (cpuset),")
        assert auto(tmp_path, {2, 3, 5})[1].startswith("3 workers: 3 CPUs allowed (cpuset),")
        assert auto(tmp_path, {3})[1].startswith("1 worker: 1 CPU allowed (affinity),")
        assert auto(tmp_path, {0, 3, 5})[1].startswith("2 workers: 2 CPUs allowed (cpuset and affinity),")

    def test_cpuset_of_a_group_without_the_controller_is_that_above(self, tmp_path):
        groups = {"/": {"cpuset.cpus.effective": "0-7"}, "/a": {"cpuset.cpus.effective": "0-1"}, "/a/b": {"x": ""}}
        cgroup_v2(machine(tmp_path, 8), groups, own="/a/b")
        assert auto(tmp_path)[0] == 2


class TestVersionOne:
    def test_quota_and_cpuset(self, tmp_path):
        cgroup_v1(
            machine(tmp_path, 16),
            {
                "cpu": {
                    "/": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
                    "/k/pod": {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "50000"},
                    "/k/pod/c": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
                },
                "cpuset": {"/k/pod/c": {"cpuset.cpus": "4-9"}, "/k/pod": {"cpuset.cpus": "0-15"}},
                "memory": {"/k/pod/c": {"memory.limit_in_bytes": V1_UNLIMITED}},
            },
            own="/k/pod/c",
        )
        found = hardware.read(tmp_path)
        assert found.quota.source == "/sys/fs/cgroup/cpu,cpuacct/k/pod/cpu.cfs_quota_us"
        assert found.memory_limit == hardware.Found(
            None, "/sys/fs/cgroup/memory/k/pod/c/memory.limit_in_bytes"
        )  # fmt: skip
        count, why = workers_for("auto", found)
        assert why.startswith("3 workers: 6 CPUs allowed (cpuset), cgroup quota 3.0, ") and why.endswith(
            "quota decides"
        )

    def test_container_that_sees_its_own_group_only(self, tmp_path):
        cgroup_v1(
            machine(tmp_path, 16),
            {
                "cpu": {"/": {"cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "100000"}},
                "memory": {"/": {"memory.limit_in_bytes": str(FITS_TWELVE)}},
            },
            own="/docker/abc",
            shown="/docker/abc",
        )
        assert auto(tmp_path)[1] == "4 workers: 16 CPUs online, cgroup quota 4.0, memory for 12; the quota decides"


class TestMemory:
    @pytest.mark.parametrize(
        ("limit", "count"),
        [(FITS_TWELVE, 12), (FITS_TWELVE - 1, 11), (RESERVE + PER_WORKER, 1), (RESERVE, 1), (1, 1)],
    )
    def test_limit(self, tmp_path, limit, count):
        cgroup_v2(machine(tmp_path, 16), {"/": {"memory.max": str(limit)}})
        assert auto(tmp_path)[0] == count
        assert auto(tmp_path)[1].endswith("; memory decides" if limit >= RESERVE + PER_WORKER else "one is the least")

    def test_the_point_of_throttling_is_a_limit(self, tmp_path):
        cgroup_v2(machine(tmp_path, 16), {"/": {"memory.max": "max", "memory.high": str(FITS_TWELVE)}})
        assert auto(tmp_path)[0] == 12

    def test_a_limit_above_what_there_is_does_not_help(self, tmp_path):
        cgroup_v2(machine(tmp_path, 16, memory=FITS_TWELVE), {"/": {"memory.max": str(64 * GIB)}})
        assert auto(tmp_path)[0] == 12


class TestConfiguredNumber:
    def test_is_kept_and_what_exceeds_the_machine_is_said(self, tmp_path):
        found = hardware.read(cgroup_v2(machine(tmp_path, 8), {"/": {"cpu.max": "250000 100000"}}))
        assert workers_for(3, found) == (3, "3 workers, as configured")
        assert workers_for("4", found) == (
            4,
            "4 workers, as configured, though the machine has room for 3: 8 CPUs online, cgroup quota 2.5,"
            " memory for 652",
        )


MALFORMED = [
    "",
    "-",
    "max max",
    "0 0",
    "-1 -1",
    "1e9",
    "9" * 5000,
    "0-",
    "3-1",
    "0-99999999999",
    "²",
    "\0",
    "a:b",
    "kB",
]
FILES = [
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
    "/sys/devices/system/node/node0/cpulist",
    "/proc/meminfo",
    "/proc/self/status",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpuset.cpus.effective",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "/sys/fs/cgroup/cpuset/cpuset.cpus",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
]


class TestMalformed:
    @pytest.mark.parametrize("text", MALFORMED)
    def test_nonsense_is_no_limit(self, tmp_path, text):
        write(tmp_path, dict.fromkeys(FILES, text))
        assert auto(tmp_path, range(5))[0] == 5
        assert table(hardware.read(tmp_path))

    def test_bytes_that_are_no_text(self, tmp_path):
        cgroup_v2(machine(tmp_path, 8), {"/": {}})
        directory = os.fsencode(tmp_path) + b"/sys/fs/cgroup/\xff"
        os.makedirs(directory)
        pathlib.Path(os.fsdecode(directory), "cpu.max").write_text("200000 100000\n")
        (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
        found = hardware.read(tmp_path)
        assert workers_for(None, found)[0] == 2
        assert "\\udcff/cpu.max" in table(found)

    def test_directories_where_files_belong(self, tmp_path):
        for name in FILES:
            (tmp_path / name.lstrip("/")).mkdir(parents=True)
        assert auto(tmp_path, range(5))[0] == 5

    def test_sets_without_a_common_cpu(self, tmp_path):
        cgroup_v2(machine(tmp_path, 4), {"/": {"cpuset.cpus.effective": "100-101"}})
        assert auto(tmp_path, {1, 2})[1].startswith("2 workers: 2 CPUs allowed (affinity),")
        assert auto(tmp_path, {50})[0] == 1

    @given(text=st.sets(st.integers(0, hardware.MAX_CPUS - 1), min_size=1))
    def test_lists_of_cpus_survive_the_round_trip(self, text):
        assert parse_cpus(show_cpus(text)) == text


contents = st.one_of(
    st.sampled_from(["max", "max 100000", "250000 100000", "-1", V1_UNLIMITED, "0-3,8", "2", "MemTotal: 9 kB"]),
    st.sampled_from(MALFORMED),
    st.sampled_from(["0::/", "0::/../a", "4:cpu,cpuacct:/b", "9 9 0:1 / /sys/fs/cgroup rw - cgroup2 c rw", "9 9 0:1"]),
    st.integers(-1, 10**12).map(str),
    st.text(st.characters(codec="utf-8"), max_size=40),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    files=st.dictionaries(st.sampled_from(FILES), contents),
    affinity=st.none() | st.sets(st.integers(0, 300), min_size=1, max_size=40),
)
def test_auto_is_at_least_one_and_at_most_the_allowed_cpus(files, affinity):
    with tempfile.TemporaryDirectory() as root:
        found = hardware.read(write(pathlib.Path(root), files), affinity)
    count, why = workers_for("auto", found)
    assert 1 <= count <= max(1, len(found.allowed))
    assert affinity is None or found.allowed <= affinity
    assert "\n" not in why and why.startswith(f"{count} worker")
    assert table(found).encode()


class TestThisMachine:
    def test_affinity_is_the_kernels(self):
        found = hardware.read()
        assert found.affinity.value == found.allowed == os.sched_getaffinity(0)
        assert 0 < found.memory_total.value <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert 1 <= workers_for("auto")[0] <= usable_cpus()

    def test_the_root_of_a_process_is_not_taken_for_our_own(self):
        assert hardware.read("/").affinity.source == "sched_getaffinity"
        assert hardware.read("/proc/self/root").affinity.source == "/proc/self/status"

    def test_the_files_agree_with_the_kernel(self, tmp_path):
        """Through a root that is not /, so that nothing but files is asked."""
        (tmp_path / "proc").symlink_to("/proc")
        (tmp_path / "sys").symlink_to("/sys")
        copy, real = hardware.read(tmp_path), hardware.read()
        assert copy.allowed == real.allowed and copy.affinity.source == "/proc/self/status"
        assert (copy.quota, copy.cpuset, copy.memory_limit) == (real.quota, real.cpuset, real.memory_limit)


class TestCommand:
    def test_table_names_each_file(self, tmp_path, capsys):
        groups = {"/": {"cpu.max": "250000 100000", "memory.max": str(FITS_TWELVE), "cpuset.cpus.effective": "0-5"}}
        cgroup_v2(machine(tmp_path, 8, smt=2, nodes=2), groups)
        assert cli.main(["hardware", "--root", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        for name, found, source in [
            ("CPUs online", "8: 0-7", "/sys/devices/system/cpu/online"),
            ("affinity", "8: 0-7", "/proc/self/status"),
            ("cpuset of cgroup", "6: 0-5", "/sys/fs/cgroup/cpuset.cpus.effective"),
            ("CPU quota of cgroup", "2.5 CPUs", "/sys/fs/cgroup/cpu.max"),
            ("physical cores", "4 cores with SMT 2", "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list"),
            ("NUMA nodes", "2: node 0 has CPUs 0-3; node 1 has CPUs 4-7", "/sys/devices/system/node/node*/cpulist"),
            ("memory limit of cgroup", f"{FITS_TWELVE // MIB} MiB", "/sys/fs/cgroup/memory.max"),
            ("memory", "64.0 GiB", "/proc/meminfo"),
            ("memory available now", "32.0 GiB", "/proc/meminfo"),
        ]:
            assert row(text, name).split("  ")[0] == found and row(text, name).endswith(f"  {source}")
        assert text.splitlines()[-1] == (
            "3 workers: 6 CPUs allowed (cpuset), cgroup quota 2.5, 4 cores with SMT 2, 2 NUMA nodes, memory for 12;"
            " the quota decides"
        )
        assert all(line == line.rstrip() for line in text.splitlines())

    def test_this_machine(self, capsys):
        assert cli.main(["hardware"]) == 0
        text = capsys.readouterr().out
        assert row(text, "affinity").endswith("sched_getaffinity")
        assert text.splitlines()[-1] == workers_for("auto")[1]

    def test_unlimited_and_unknown_are_not_the_same(self, tmp_path):
        cgroup_v2(machine(tmp_path, 2), {"/": {"cpu.max": "max 100000"}})
        text = table(hardware.read(tmp_path))
        assert row(text, "CPU quota of cgroup").split() == ["no", "limit", "/sys/fs/cgroup/cpu.max"]
        assert row(text, "memory limit of cgroup") == "not found"
        assert table(Hardware()).count("not found") == 9

    def test_a_root_that_is_none_is_refused(self, tmp_path, capsys):
        assert cli.main(["hardware", "--root", str(tmp_path / "none")]) == 2
        assert "is not a directory" in capsys.readouterr().err
