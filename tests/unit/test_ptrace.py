"""Why py-spy may not look into a worker, from what /proc says."""

import os

import pytest

from heatperf.server.ptrace import obstacle

NONE, ALL = "0000000000000000", "000001ffffffffff"
BIND = "0000000000000400"
AGAIN = "/usr/bin/heatperf profile"


@pytest.fixture
def tree(tmp_path):
    """A /proc with this process and a worker, pid 7."""

    def make(scope=None, uid=1000, worker=1000, effective=NONE, permitted=NONE, held=NONE):
        for process, user, eff, per in (("self", uid, effective, permitted), ("7", worker, NONE, held)):
            folder = tmp_path / "proc" / process
            folder.mkdir(parents=True)
            ids = "\t".join([str(user)] * 4)
            (folder / "status").write_text(f"Name:\tx\nUid:\t{ids}\nCapPrm:\t{per}\nCapEff:\t{eff}\n")
            (folder / "mem").touch()
        if scope is not None:
            (tmp_path / "proc/sys/kernel/yama").mkdir(parents=True)
            (tmp_path / "proc/sys/kernel/yama/ptrace_scope").write_text(f"{scope}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("facts", "why", "remedy"),
    [
        ({"scope": 1}, "ptrace_scope is 1", f"run it as root: sudo {AGAIN}. (sysctl kernel.yama.ptrace_scope=0 would"),
        ({"scope": 2}, "ptrace_scope is 2", f"sudo {AGAIN}"),
        ({"scope": 3}, "ptrace_scope is 3", "reboot"),
        ({"scope": 3, "uid": 0, "effective": ALL}, "ptrace_scope is 3", "reboot"),
        ({"uid": 300001, "worker": 300002}, "runs as user 300002, this command as user 300001", f"sudo {AGAIN}"),
        ({"uid": 0, "worker": 0}, "root without CAP_SYS_PTRACE", "--cap-add SYS_PTRACE"),
        ({"uid": 0, "worker": 1000, "scope": 1}, "root without CAP_SYS_PTRACE", "capabilities.add: [SYS_PTRACE]"),
        ({"uid": 0, "worker": 0, "effective": ALL}, "has CAP_SYS_PTRACE and is refused", "audit log"),
        ({"scope": 0, "held": BIND}, "capabilities that this command does not", f"sudo {AGAIN}"),
    ],
)
def test_what_is_in_the_way_and_the_remedy(tree, facts, why, remedy):
    said = obstacle(7, AGAIN, tree(**facts))
    assert why in said[0] and remedy in said[1], said


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of root")
def test_a_worker_that_has_changed_its_user(tree):
    said = obstacle(7, AGAIN, tree(scope=0))  # its files in /proc belong to root
    assert "changed its user" in said[0] and said[1] == f"run it as root: sudo {AGAIN}"


def test_nothing_is_known(tmp_path):
    assert obstacle(7, AGAIN, tmp_path) == (
        "the kernel forbids it, for a reason that /proc does not tell",
        f"run it as root: sudo {AGAIN}",
    )
