"""As process 1, as any user, on a read-only root, with whatever limits."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from conftest import alive, children, command_of, wait_for, workers_of, zygotes_of

#: What the supervisor must not contain: all of it can be wrong, and replaced, without the supervisor noticing.
FOREIGN = ("oslo", "gevent", "greenlet", "heat", "paste", "webob", "routes", "keystone", "eventlet", "yaml", "requests")


def unshare(*arguments):
    """A command that runs another in namespaces of its own."""
    command = ["unshare", *arguments]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    assert tried.returncode == 0, (
        f"this test needs root, and a sandbox that permits {' '.join(command)}: {tried.stderr}"
    )
    return command


def test_process_1(start):
    """Signals work, which the kernel keeps from a process 1 without handlers, and orphans are reaped."""
    served = start(workers=2, name="old", wrap=unshare("--pid", "--fork", "--kill-child", "--mount-proc"))
    served.ready()
    assert served.status()["pid"] == 1
    (init,) = children(served.pid)
    before = workers_of(init)
    assert len(before) == 2 and len(zygotes_of(init)) == 1
    # A process whose parent has ended becomes ours, and a zombie for ever unless it is waited for.
    assert served.get("/orphan")[0] == 200
    (orphan,) = wait_for(lambda: {pid for pid in children(init) if command_of(pid) == "sleep"})
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), "the end of an orphan")
    # So do workers whose zygote is killed.
    os.kill(min(zygotes_of(init)), signal.SIGKILL)
    served.wait_text("Reloaded: generation 2")
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "the end of orphaned workers")
    served.configure(name="new")
    os.kill(init, signal.SIGHUP)
    served.wait_text("Reloaded: generation 3")
    wait_for(lambda: {served.name() for _ in range(10)} == {"new"})
    held = served.hold()
    os.kill(init, signal.SIGTERM)
    served.wait_text("Stopping Heat REST API")
    served.release()
    assert held()[0] == 200
    assert served.wait() == 0


def test_read_only_root_and_any_user(start):
    """No home, no place to write, a user without a name; no place for a control socket is no reason not to serve."""
    # The capability is for this test's interpreter and files, which may be below /root: it allows reading, no more.
    caps = "-all,+dac_read_search"
    drop = (
        "mount -o remount,bind,ro / && cd / && exec setpriv --reuid=54321 --regid=54321 --clear-groups"
        f' --inh-caps={caps} --ambient-caps={caps} --bounding-set={caps} "$@"'
    )
    served = start(
        workers=2, insist=False, wrap=[*unshare("--mount"), "sh", "-c", drop, "sh"], environment={"HOME": None}
    )
    assert served.get()[0] == 200
    served.wait_text("heatperf reload, stop and status cannot reach this server")
    status = Path(f"/proc/{served.pid}/status").read_text()
    assert "Uid:\t54321\t54321\t54321\t54321" in status
    (pid, _other) = sorted(wait_for(lambda: len(pids := served.workers()) == 2 and pids))
    os.kill(pid, signal.SIGKILL)
    served.wait_text(rf"\(pid {pid}\) was killed by SIGKILL")
    served.configure(name="new")
    served.signal(signal.SIGHUP)
    served.wait_text("Reloaded: generation 2")
    wait_for(lambda: {served.name() for _ in range(10)} == {"new"})
    assert "Traceback" not in served.text()
    assert served.stop() == 0


def test_the_limit_of_open_files_is_raised(start):
    served = start(wrap=["sh", "-c", 'ulimit -S -n 300; ulimit -H -n 3000; exec "$@"', "sh"])
    workers = served.ready()
    for pid in (served.pid, *served.zygotes(), *workers):
        limits = re.search(r"^Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M)
        assert limits.groups() == ("3000", "3000")


def test_the_supervisor_contains_nothing_of_what_it_serves(start):
    # Packages may have put something into every interpreter (.pth files).
    code = "import sys; before = set(sys.modules); import heatperf.cli.launch; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "heatperf.server.supervisor" in found
    assert [name for name in found if name.split(".")[0].startswith(FOREIGN) and name.split(".")[0] != "heatperf"] == []
    ours = {"cli", "server", "loops", "errors"}
    assert {name.split(".")[1] for name in found if name.startswith("heatperf.")} <= ours
    served = start()
    (worker,) = served.ready()
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (served.pid, worker)}
    assert re.search(r"(greenlet|gevent).*\.so", maps[worker])  # or the next line would prove nothing
    assert not re.search(r"(greenlet|gevent).*\.so", maps[served.pid])
    assert alive(served.pid)
