"""Addresses that are taken, stale or ours."""

import os
import re
import signal
import socket
import stat

import pytest
from conftest import on_each_loop, wait_for


def ask_unix(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while data := sock.recv(1000):
            answer += data
    return answer


def test_a_taken_port_is_refused_by_name(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        served = start(binds=[f"127.0.0.1:{port}"], bind_retry=0.3)
        assert served.wait() == 2
    assert f"port {port} is taken" in served.text()
    assert "boot of" not in served.text()


def test_a_port_that_becomes_free_is_taken(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        served = start(binds=[f"127.0.0.1:{other.getsockname()[1]}"])
        served.wait_text("is taken by another process; trying")
    assert served.get()[0] == 200


def test_several_addresses(start, tmp_path):
    path = str(tmp_path / "api.sock")
    served = start(binds=["127.0.0.1:0", f"unix:{path}"])
    assert served.get()[0] == 200
    served.wait_text(f"Starting Heat REST API on unix:{path}$")
    assert ask_unix(path).startswith(b"HTTP/1.1 200 ")


def test_ipv6(start):
    served = start(binds=["[::1]:0"])
    port = int(served.wait_text(r"Starting Heat REST API on \[::1\]:(\d+)$")[0])
    assert ask("::1", port).startswith(b"HTTP/1.1 200 ")


def free_port():
    """A port that nobody uses on any address of either family."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::", 0))
        return sock.getsockname()[1]


def ask(host, port):
    with socket.create_connection((host, port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return sock.recv(100)


@pytest.mark.parametrize("hosts", [("0.0.0.0", "[::]"), ("[::]", "0.0.0.0"), ("127.0.0.1", "[::]")])
def test_both_families_on_one_port(start, hosts):
    port = free_port()
    served = start(binds=[f"{host}:{port}" for host in hosts])
    served.wait_text("Starting Heat REST API on", len(hosts))
    assert ask("127.0.0.1", port).startswith(b"HTTP/1.1 200 ")
    assert ask("::1", port).startswith(b"HTTP/1.1 200 ")
    assert "is taken" not in served.text()


def test_ipv6_alone_serves_both_families(start):
    served = start(binds=["[::]:0"])
    port = int(served.wait_text(r"Starting Heat REST API on \[::\]:(\d+)$")[0])
    assert ask("127.0.0.1", port).startswith(b"HTTP/1.1 200 ")
    assert ask("::1", port).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_waiting_for_a_taken_port_can_be_ended(start, tmp_path, signum, code):
    path = tmp_path / "api.sock"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        served = start(binds=[f"unix:{path}", f"127.0.0.1:{other.getsockname()[1]}"])
        served.wait_text("is taken by another process; trying")
        served.signal(signal.SIGHUP)
        served.signal(signum)
        assert served.wait() == code
    served.wait_text(rf"Stopping \({signum.name}\) before it could start$")
    assert "Traceback" not in served.text() and "boot of" not in served.text()
    assert not path.exists()


def test_unix_socket_mode_owner_and_end(start, tmp_path):
    path = str(tmp_path / "api.sock")
    served = start(binds=[f"unix:{path},mode=0620,owner={os.getuid()}:{os.getgid()}"])
    served.wait_text("Starting")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o620
    (pid,) = served.workers()
    os.kill(pid, signal.SIGKILL)  # a worker's end does not take the socket away
    served.wait_text("was killed by")
    assert ask_unix(path).startswith(b"HTTP/1.1 200 ")
    served.signal(signal.SIGTERM)
    assert served.wait() == 0
    assert not os.path.exists(path)


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(start, tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    first = start(binds=[f"unix:{path}"])
    first.wait_text("Removed the stale socket")
    wait_for(lambda: "Starting" in first.text())
    second = start(binds=[f"unix:{path}"])
    assert second.wait() == 2
    assert "another process answers there" in second.text()
    assert ask_unix(path).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("make", [lambda path: path.write_text("precious"), lambda path: path.mkdir()])
def test_other_files_are_left_alone(start, tmp_path, make):
    path = tmp_path / "api.sock"
    make(path)
    served = start(binds=[f"unix:{path}"])
    assert served.wait() == 2
    assert "not a socket" in served.text() and path.exists()


@on_each_loop
def test_running_out_of_descriptors_passes(start):
    served = start(nofile=50)
    port = served.port
    held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(80)]
    served.wait_text("Cannot accept connections", 2)
    for sock in held:
        sock.close()
    assert served.get()[0] == 200
    # It pauses in between; without that there would be thousands.
    assert len(re.findall("Cannot accept connections", served.text())) < 10
    assert len(served.ready()) == 1 and "was killed" not in served.text()
