"""systemd's notification protocol: the order of the messages, and their delivery."""

import os
import socket
import time

import pytest

from heatperf.server.notify import MAX_STATUS, Notifier, Order


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def notifier(systemd):
    made = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "3000000"})
    yield made
    made.close()


def received(sock):
    messages = []
    while True:
        try:
            messages.append(sock.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_the_life_of_a_service(systemd, notifier):
    notifier.status("Starting")
    notifier.ready("Serving with 2 workers")
    notifier.watchdog()
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.reloaded("Refused: no such file")
    notifier.stopping("Draining")
    notifier.status("1 request left")
    told = received(systemd)
    assert before <= int(told[3].removeprefix("RELOADING=1\nMONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert told[:3] + told[4:] == [
        "STATUS=Starting",
        "READY=1\nSTATUS=Serving with 2 workers",
        "WATCHDOG=1",
        "READY=1\nSTATUS=Refused: no such file",
        "STOPPING=1\nSTATUS=Draining",
        "STATUS=1 request left",
    ]


def test_nothing_before_its_time():
    order = Order()
    assert order.reloading(1) is None and order.reloaded("") is None and order.watchdog() is None
    assert order.ready("") == "READY=1" and order.ready("") is None
    assert order.reloaded("still here") == "STATUS=still here"


def test_a_second_reload_restarts_the_wait_for_its_end():
    order = Order()
    order.ready("")
    assert order.reloading(1) == "RELOADING=1\nMONOTONIC_USEC=1"
    assert order.reloading(2) == "RELOADING=1\nMONOTONIC_USEC=2"
    assert [order.reloaded(""), order.reloaded("")] == ["READY=1", None]


@pytest.mark.parametrize("ready", [False, True])
def test_after_the_stop_there_are_only_words(ready):
    order = Order()
    if ready:
        order.ready("")
    assert order.stopping("") == "STOPPING=1"
    told = [order.ready("a"), order.reloading(1), order.reloaded("b"), order.stopping("c"), order.watchdog()]
    assert told == ["STATUS=a", None, "STATUS=b", "STATUS=c", None]


def test_a_status_is_sent_when_it_changes():
    order = Order()
    assert [order.status(text) for text in ("", "a", "a", "b", "")] == [None, "STATUS=a", None, "STATUS=b", "STATUS="]


def test_a_status_is_one_line_of_bounded_length():
    order = Order()
    assert order.status("bad\nREADY=1\x1b[2J\udcff") == "STATUS=bad READY=1 [2J"
    line = order.status("\u00e4" * 1000)
    assert line == "STATUS=" + "\u00e4" * (MAX_STATUS // 2)


def test_child_processes_do_not_see_the_variables(systemd):
    environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    Notifier(environ).close()
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("20000000", None, 10.0),
        ("20000000", str(os.getpid()), 10.0),
        ("20000000", "1", None),
        ("0", None, None),
        ("-1", None, None),
        ("\u00b2", None, None),
        ("9" * 5000, None, None),
        (None, None, None),
    ],
)
def test_the_watchdog(systemd, usec, pid, interval):
    environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    notifier = Notifier({name: value for name, value in environ.items() if value is not None})
    assert notifier.watchdog_interval == interval
    notifier.ready()
    notifier.watchdog()
    notifier.close()
    assert received(systemd) == ["READY=1"] + (["WATCHDOG=1"] if interval else [])


@pytest.mark.parametrize("address", [None, "relative", "vsock:2:1234", "/nonexistent/n", "/" + "x" * 200])
def test_it_never_raises(address, caplog):
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100"})
    for _ in range(3):
        notifier.ready("a")
        notifier.watchdog()
        notifier.stopping("b")
    notifier.close()
    notifier.status("after the end")
    assert len(caplog.records) == (0 if address is None else 1)  # one complaint, not one for each message


def test_the_abstract_namespace():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("")  # the kernel chooses an abstract name
        notifier = Notifier({"NOTIFY_SOCKET": "@" + systemd.getsockname()[1:].decode()})
        notifier.ready()
        notifier.close()
        assert systemd.recv(100) == b"READY=1"


def test_a_full_queue_delays_but_loses_no_change_of_state(systemd, notifier):
    filled = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        try:
            while True:
                other.sendto(b"x", systemd.getsockname())
                filled += 1
        except BlockingIOError:
            pass
    notifier.ready("Serving")
    for number in range(50):
        notifier.status(f"{number} requests")
        notifier.watchdog()
    assert received(systemd) == ["x"] * filled
    notifier.status("49 requests")  # nothing new, but now there is room
    assert received(systemd) == ["READY=1\nSTATUS=Serving", "STATUS=49 requests"]
