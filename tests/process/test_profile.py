"""``heatperf profile`` with the real py-spy, on real workers under load."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from conftest import BIN, GET, TIMEOUT, answer_on, heatperf, wait_for

NAME = r"\d{8}-\d{6}-worker-%s-%s\.%s"
SHUT = "cannot be looked into"
#: Root without the capability, as in a container; what it starts cannot get it back.
CONTAINED = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace")

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="drops privileges of root")


@contextlib.contextmanager
def load(port, connections=4):
    """Keep a server busy from threads of this process."""
    over = threading.Event()

    def ask():
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
                # A new connection now and then, so that no worker is left without any.
                for _ in range(20):
                    sock.sendall(GET)
                    if over.is_set() or not answer_on(sock):
                        break

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(TIMEOUT)


def profile(served, *arguments, wrap=(), **options):
    command = [*wrap, BIN / "heatperf", "profile", "--control", served.control, "--seconds", "1", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, **options)


def test_a_flame_graph_of_the_first_worker(start, tmp_path):
    served = start(workers=2)
    served.ready()
    text = ""
    with load(served.port):
        # Where the machine is busy with other things, a second may hold next to nothing of this worker.
        for _ in range(5):
            done = profile(served, "--output", tmp_path)
            assert done.returncode == 0, done.stderr
            (file,) = tmp_path.glob("*.svg")
            assert done.stdout == f"{file}\n"
            assert re.fullmatch(NAME % (0, "gevent", "svg"), file.name)
            text = file.read_text()
            if "wsgi (" in text:
                break
            file.unlink()
    assert "<svg" in text and "heatperf/loops/" in text and "wsgi (" in text
    assert not list(tmp_path.glob(".*")), "nothing unfinished is left"


def test_all_workers_at_once_for_speedscope(start, tmp_path):
    served = start(workers=2)
    served.ready()
    (tmp_path / "profiles").mkdir()  # where it goes unless told otherwise
    with load(served.port):
        done = profile(served, "--worker", "all", "--format", "speedscope", "--gil", "--rate", "200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.glob("profiles/*"))
    assert sorted(done.stdout.split()) == [str(file.relative_to(tmp_path)) for file in files]
    assert len(files) == 2
    for slot, file in enumerate(files):
        assert re.fullmatch(NAME % (slot, "gevent", r"speedscope\.json"), file.name)
        frames = [frame["file"] for frame in json.loads(file.read_text())["shared"]["frames"]]
        assert any(name.endswith("heatperf/loops/connection.py") for name in frames)


def test_a_worker_that_does_nothing_and_one_that_is_not_there(start, tmp_path):
    served = start()
    served.ready()
    idle = profile(served, "--output", tmp_path, "--gil")
    # It may have been caught at writing its heartbeat, or not even at that.
    assert idle.returncode == (0 if idle.stdout else 1), idle
    assert re.search(r"worker 0 \(pid \d+\) (was|has) .*send it requests meanwhile", idle.stderr), idle.stderr
    absent = profile(served, "--worker", "7")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "ERROR: there is no worker 7 (give all or one of 0)" in absent.stderr


def test_a_worker_that_ends_meanwhile(start, tmp_path):
    served = start()
    (pid,) = served.ready()
    command = [BIN / "heatperf", "profile", "--control", served.control, "--seconds", "60", "--output", tmp_path]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with load(served.port):
        wait_for(lambda: (read := tracer_of(pid)) and read != process.pid, "py-spy at work")
        os.kill(pid, signal.SIGKILL)
        _out, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert re.search(rf"ERROR: worker 0 \(pid {pid}\) has ended after \d+\.\d s of 60 s \(heatperf status", said)


def tracer_of(pid):
    """Pid of the process that traces another just now; 0 for none."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"^TracerPid:\s*(\d+)$", file.read(), re.M)[1])


def interruptible():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_interrupted_it_keeps_what_it_has(start, tmp_path):
    served = start()
    (pid,) = served.ready()
    command = [BIN / "heatperf", "profile", "--control", served.control, "--seconds", "60", "--output", tmp_path]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Whoever was started in the background by a shell ignores SIGINT, and so do all that it starts.
    process = subprocess.Popen(list(map(str, command)), preexec_fn=interruptible, **pipes)
    with load(served.port):
        for _ in range(10):
            wait_for(lambda: tracer_of(pid), "py-spy at work")
        process.send_signal(signal.SIGINT)
        out, _said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    (file,) = tmp_path.glob("*.svg")
    assert out == f"{file}\n" and "heatperf/" in file.read_text()


@needs_root
def test_root_of_a_container(start, tmp_path):
    served = start()
    served.ready()
    done = profile(served, "--output", tmp_path, wrap=CONTAINED)
    assert (done.returncode, done.stdout) == (1, "")
    assert SHUT in done.stderr and "root without CAP_SYS_PTRACE" in done.stderr, done.stderr
    assert "--cap-add SYS_PTRACE" in done.stderr and not list(tmp_path.glob("*.svg"))


def test_no_server(tmp_path):
    gone = heatperf("profile", "--control", tmp_path / "absent.sock")
    assert gone.returncode == 2 and "no server is running" in gone.stderr


def test_without_py_spy(start, tmp_path):
    served = start()
    served.ready()
    # An interpreter in a folder without py-spy: a virtual environment that sees the packages of this one.
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(os.path.realpath(sys.executable))
    program = "import sys; from heatperf.cli import main; sys.exit(main())"
    paths = [path for path in sys.path if path.endswith("site-packages")] + [str(BIN.parent.parent)]
    done = subprocess.run(
        [folder / "python", "-c", program, "profile", "--control", served.control],
        capture_output=True,
        text=True,
        env={"PATH": "/nonexistent", "PYTHONPATH": os.pathsep.join(paths)},
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "ERROR: py-spy is not installed (pip install 'heatperf[profile]')\n"
