"""Sockets from systemd: whose they are, and what is refused."""

import os
import socket
import subprocess
import sys

import pytest

from heatperf.errors import ConfigurationError
from heatperf.server.activation import inherited

ME = str(os.getpid())
#: As systemd does it: descriptors from 3 on, not closed on exec, and the pid of the program to be.
LAUNCHER = """
import os, socket, sys
opened = [socket.socket(socket.AF_INET), socket.socket(socket.AF_INET6), socket.socket(socket.AF_UNIX)]
for number, sock in enumerate(opened):
    sock.bind(("127.0.0.1", 0) if number == 0 else ("::1", 0) if number == 1 else sys.argv[1])
    sock.listen()
high = [os.dup(os.dup(os.dup(sock.fileno()))) for sock in opened]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="v4:v6:local")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
SERVER = """
import os
from heatperf.server.activation import inherited
for sock in inherited(os.environ):
    print(sock.fileno(), sock.family.name, sock.get_inheritable(), sock.getsockname()[0])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        os.set_inheritable(sock.fileno(), True)
        yield sock


def activate(sock, pid=ME, fds="1", **more):
    """As if the socket were the first one passed."""
    environ = {"LISTEN_PID": pid, "LISTEN_FDS": fds, **more}
    try:
        taken = inherited(environ, first=sock.fileno())
    finally:
        assert not environ
    for each in taken:
        each.detach()  # the fixture's
    return taken


def test_what_a_program_gets_from_systemd(tmp_path):
    path = str(tmp_path / "h.sock")
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, path, SERVER], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.splitlines() == [
        "3 AF_INET False 127.0.0.1",
        "4 AF_INET6 False ::1",
        f"5 AF_UNIX False {path[0]}",
        "[]",
    ]


def test_they_are_closed_on_exec(listener):
    assert len(activate(listener, LISTEN_FDNAMES="x.socket", LISTEN_PIDFDID="7")) == 1
    assert not listener.get_inheritable()


def test_nothing_is_taken_without_activation_or_for_another_process(listener):
    assert inherited({}) == []
    assert activate(listener, pid="1") == [] and activate(listener, fds="0") == []
    assert inherited({"LISTEN_FDS": "1"}) == [] and inherited({"LISTEN_PID": ME}) == []
    assert listener.get_inheritable()


@pytest.mark.parametrize("variable", ["LISTEN_PID", "LISTEN_FDS"])
@pytest.mark.parametrize("value", ["x", "-1", "\u00b2", "9" * 5000])
def test_numbers_that_are_none(variable, value):
    environ = {"LISTEN_PID": ME, "LISTEN_FDS": "1", variable: value}
    with pytest.raises(ConfigurationError, match=variable) as caught:
        inherited(environ)
    assert "socket activation" in caught.value.remedy and len(str(caught.value)) < 300 and not environ


def test_more_sockets_than_anybody_has():
    with pytest.raises(ConfigurationError, match="LISTEN_FDS=1000000000"):
        inherited({"LISTEN_PID": ME, "LISTEN_FDS": "1000000000"})


def refused(sock_or_fd):
    fd = sock_or_fd if isinstance(sock_or_fd, int) else sock_or_fd.fileno()
    with pytest.raises(ConfigurationError) as caught:
        inherited({"LISTEN_PID": ME, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "heat.socket"}, first=fd)
    assert caught.value.message.startswith(f"descriptor {fd} (heat.socket)")
    return caught.value


@pytest.mark.parametrize(
    ("family", "kind", "words", "directive"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, "is a datagram socket", "ListenDatagram="),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, "is a sequential-packet socket", "ListenSequentialPacket="),
        (socket.AF_NETLINK, socket.SOCK_RAW, "is a raw socket", "ListenNetlink="),
        (socket.AF_INET, socket.SOCK_STREAM, "does not listen", "ListenStream="),
    ],
)
def test_sockets_of_other_kinds(family, kind, words, directive):
    with socket.socket(family, kind) as sock:
        error = refused(sock)
        assert words in error.message and directive in error.remedy and "ListenStream=" in error.remedy
        os.fstat(sock.fileno())  # still open


def test_one_connection_of_an_accepting_unit(listener):
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        error = refused(connection)
    assert "is a connection" in error.message and "Accept=no" in error.remedy


def test_descriptors_that_are_no_sockets(tmp_path):
    read_end, write_end = os.pipe()
    file = os.open(tmp_path / "x", os.O_CREAT | os.O_RDWR)
    try:
        for fd, words, directive in ((read_end, "a FIFO", "ListenFIFO="), (file, "a regular file", "OpenFile=")):
            error = refused(fd)
            assert words in error.message and directive in error.remedy
    finally:
        for fd in (read_end, write_end, file):
            os.close(fd)


def test_a_descriptor_that_is_not_there(listener):
    gone = os.dup(listener.fileno())
    os.close(gone)
    error = refused(gone)
    assert "Bad file descriptor" in error.message and "ExecStart=" in error.remedy


def test_a_good_one_beside_a_bad_one_stays_open(listener):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bad:
        pair = os.dup(listener.fileno()), os.dup(bad.fileno())
    if pair[1] != pair[0] + 1:
        os.dup2(pair[1], pair[0] + 1)
    try:
        with pytest.raises(ConfigurationError, match=f"descriptor {pair[0] + 1},"):
            inherited({"LISTEN_PID": ME, "LISTEN_FDS": "2"}, first=pair[0])
        os.fstat(pair[0])
    finally:
        for fd in {*pair, pair[0] + 1}:
            os.close(fd)
