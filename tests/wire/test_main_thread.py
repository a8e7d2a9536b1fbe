"""What only the main thread of a process can see of a loop: signals, and exceptions that end it."""

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, threading, time
from heatperf import loops
loop = loops.create(sys.argv[1])
"""


@pytest.fixture
def run(loop_name):
    """Run a program around a loop; returns its exit code and what it printed."""

    def execute(code):
        command = [sys.executable, "-c", BEGIN + code, loop_name]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return ended.returncode, ended.stdout.split(), ended.stderr

    return execute


def test_signals_that_come_before_the_loop_runs(run):
    code, said, errors = run("""
def caught():
    print("caught")
    loop.sleep(0.01)  # in a greenlet, so it may park
    loop.stop()
loop.on_signal(signal.SIGTERM, caught)
os.kill(os.getpid(), signal.SIGTERM)
loop.run()
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) or "open", signal.set_wakeup_fd(-1))
""")
    assert (code, said, errors) == (0, ["caught", "open", "-1"], "")


def test_a_signal_at_every_moment_of_the_beginning(run):
    """Whichever descriptor a library has made the wakeup fd for a moment: none is lost."""
    code, said, errors = run("""
hit = 0
def caught():
    global hit
    hit += 1
    if hit < 2000:
        os.kill(os.getpid(), signal.SIGUSR1)
    else:
        loop.stop()
def begin():
    loop.sleep(0)
    print("began")
loop.on_signal(signal.SIGUSR1, caught)
loop.spawn(begin)
main = threading.main_thread().ident
threading.Timer(0.0, signal.pthread_kill, [main, signal.SIGUSR1]).start()
loop.run()
print(hit)
""")
    assert (code, said, errors) == (0, ["began", "2000"], "")


def test_handlers_of_others_run_while_the_loop_is_idle(run):
    code, said, errors = run("""
def handler(signum, frame):
    print("handled", round(time.monotonic() - began, 1))
    loop.call_soon_threadsafe(loop.stop)
loop.on_signal(signal.SIGTERM, loop.stop)
signal.signal(signal.SIGALRM, handler)
began = time.monotonic()
loop.spawn(signal.setitimer, signal.ITIMER_REAL, 0.1)
loop.call_later(10, loop.stop)
loop.run()
""")
    assert (code, said[0], errors) == (0, "handled", "")
    assert float(said[1]) < 1


def test_stop_before_run(run):
    code, said, errors = run("""
loop.stop()
loop.run()
loop.call_soon_threadsafe(print, "never")
print("over")
""")
    assert (code, said, errors) == (0, ["over"], "")


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
def test_what_is_meant_to_end_the_process_does(run, error):
    code, said, errors = run(f"""
def end():
    loop.sleep(0.01)
    raise {error}
loop.spawn(end)
try:
    loop.run()
except BaseException as exc:
    print(repr(exc))
""")
    assert (code, said) == (0, [error]), errors


def test_threads_wake_a_loop_that_sleeps(run):
    """Many threads at once, into a loop that has nothing else to do."""
    code, said, errors = run("""
left = 1000
def tick():
    global left
    left -= 1
    if not left:
        loop.stop()
def threads():
    for _ in range(100):
        loop.call_soon_threadsafe(tick)
        time.sleep(0.0001)
for _ in range(10):
    threading.Thread(target=threads).start()
loop.call_later(10, loop.stop)
loop.run()
print(left)
""")
    assert (code, said, errors) == (0, ["0"], "")


def test_greenlets_that_have_been_deep_in_the_stack_may_change_what_is_watched(run):
    """They share the C stack with the loop, so the library must not look for anything of its own there meanwhile."""
    code, said, errors = run("""
import socket

def handle(stream):
    timer = loop.call_later(0.001, int)
    stream.recv(1, True)
    nested = 1
    for _ in range(turns):
        nested = {turns: nested}
    repr(nested)  # C functions that call one another
    timer.cancel()
    stream.close()

def drive():
    global turns
    while turns < 120:
        with socket.create_connection(listener.getsockname(), 10) as first:
            with socket.create_connection(listener.getsockname(), 10) as second:
                for sock in (first, second):
                    sock.send(b"x")
                assert first.recv(1) == second.recv(1) == b""
        turns += 1
    loop.call_soon_threadsafe(loop.stop)

turns = 0
listener = socket.create_server(("127.0.0.1", 0))
loop.serve(listener, handle)
threading.Thread(target=drive, daemon=True).start()
loop.call_later(15, loop.stop)
loop.run()
print(turns)
""")
    assert (code, said, errors) == (0, ["120"], "")


def test_a_loop_that_has_ended_leaves_no_descriptor(run):
    code, said, errors = run("""
import gc, socket

def once():
    loop = loops.create(sys.argv[1])
    loop.serve(socket.create_server(("127.0.0.1", 0)), lambda stream: stream.close())
    loop.call_later(0.001, loop.stop_accepting)
    loop.call_later(0.002, loop.stop)
    loop.run()
    if loop.name == "gevent":
        loop.hub.destroy(destroy_loop=True)  # a worker would end here, with its descriptors

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

counts = set()
for _ in range(4):
    thread = threading.Thread(target=once)
    thread.start()
    thread.join()
    counts.add(descriptors())
print(len(counts))
""")
    assert (code, said, errors) == (0, ["1"], "")
