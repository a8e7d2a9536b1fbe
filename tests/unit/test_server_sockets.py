"""TLS files that cannot be used, and the options of listeners."""

import os
import socket
import ssl
import subprocess

import pytest

from heatperf.errors import ConfigurationError
from heatperf.server import places, sockets
from heatperf.server.settings import TLS, Bind, ServerSettings
from heatperf.server.tls import tls_context


def make_pair(folder, name, *options):
    cert, key = str(folder / f"{name}.crt"), str(folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", key, "-out", cert, *options],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "junk").write_text("no PEM here")
    return {
        "good": make_pair(folder, "good", "-nodes"),
        "other": make_pair(folder, "other", "-nodes"),
        "locked": make_pair(folder, "locked", "-passout", "pass:secret"),
        "junk": (str(folder / "junk"), str(folder / "junk")),
        "missing": (str(folder / "none"), str(folder / "none")),
    }


@pytest.mark.parametrize(
    ("cert", "key", "blamed", "words"),
    [
        ("missing", "good", 0, "No such file"),
        ("good", "missing", 1, "No such file"),
        ("good", "other", 1, "does not fit"),
        ("good", "junk", 1, "not PEM"),
        ("locked", "locked", 1, "encrypted"),
    ],
)
def test_unusable_tls_files_are_named(pairs, cert, key, blamed, words):
    files = pairs[cert][0], pairs[key][1]
    with pytest.raises(ConfigurationError) as caught:
        tls_context(TLS(*files))
    assert caught.value.file == files[blamed] and words in str(caught.value)


def test_old_tls_is_not_spoken(pairs):
    assert tls_context(TLS(*pairs["good"])).minimum_version is ssl.TLSVersion.TLSv1_2


def test_accepted_connections_inherit_the_options():
    settings = ServerSettings(workers=1, binds=(Bind("127.0.0.1", 0),), tcp_keepidle=77)
    (listener,) = sockets.listen(settings)
    try:
        with socket.create_connection(("127.0.0.1", listener.bind.port)), listener.sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
    finally:
        sockets.close([listener])


def test_a_refused_bind_leaves_nothing_open(tmp_path):
    path = tmp_path / "a.sock"
    (tmp_path / "b.sock").mkdir()
    binds = (Bind(path=str(path)), Bind(path=str(tmp_path / "b.sock")))
    with pytest.raises(ConfigurationError):
        sockets.listen(ServerSettings(workers=1, binds=binds))
    assert not path.exists()


@pytest.mark.parametrize(
    ("bind", "words", "remedy"),
    [
        (Bind("192.0.2.1", 0), "assign requested address", "no interface of this host"),
        (Bind("no.such.host.invalid", 1), "cannot resolve", "IP address"),
        (Bind("two..dots", 1), "cannot resolve", "IP address"),
        (Bind("fe80::1", 0), "Invalid argument", "fe80::1%eth0"),
        (Bind(path="/nonexistent/folder/x.sock"), "No such file", "make the directory /nonexistent/folder"),
        (Bind(path="file/x.sock"), "Not a directory", "/file is not a directory"),
        (Bind(path="file"), "not a socket", "another path"),
        (Bind(path="x" * 200), "too long", "107 bytes"),
        (Bind(path="x.sock", owner="nobody-of-this-name"), "does not exist", "USER"),
        (Bind(path="x.sock", owner="99999999999999999999"), "does not exist", "USER"),
        (Bind(path="x.sock", owner="\u00b2"), "does not exist", "USER"),
    ],
)
def test_addresses_that_cannot_be_used(bind, words, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=words) as caught:
        sockets.listen(ServerSettings(workers=1, binds=(bind,)))
    assert remedy in caught.value.remedy
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def unprivileged():
    """An effective user without capabilities, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_what_the_user_may_not_bind(unprivileged):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) <= 1:
            pytest.skip("everybody may bind every port here")
    for bind, remedy in ((Bind("127.0.0.1", 1), "CAP_NET_BIND_SERVICE"), (Bind(path="/proc/x.sock"), "/proc")):
        with pytest.raises(ConfigurationError) as caught:
            sockets.listen(ServerSettings(workers=1, binds=(bind,)))
        assert remedy in caught.value.remedy


@pytest.mark.parametrize("seconds", [32_768, 10**12])
def test_tcp_keepidle_beyond_the_kernels_range(seconds):
    with pytest.raises(ConfigurationError, match="tcp_keepidle") as caught:
        sockets.listen(ServerSettings(workers=1, binds=(Bind("127.0.0.1", 0),), tcp_keepidle=seconds))
    assert "32767" in caught.value.remedy


def test_the_limits_of_keepidle_and_backlog_are_usable(tmp_path):
    binds = (Bind("127.0.0.1", 0), Bind(path=str(tmp_path / "x.sock")))
    opened = sockets.listen(ServerSettings(workers=1, binds=binds, tcp_keepidle=32_767, backlog=10**12))
    sockets.close(opened)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:7", "127.0.0.1:7"),
        ("0.0.0.0:7", ":7"),
        ("0.0.0.0:7", "127.0.0.1:7"),
        ("127.0.0.1:7", "0.0.0.0:7"),
        ("[::]:7", "[::1]:7"),
        ("[::ffff:127.0.0.1]:7", "127.0.0.1:7"),
        ("unix:x.sock", "unix:./x.sock,mode=0600"),
    ],
)
def test_what_is_given_twice_is_refused_at_once(first, second, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    binds = tuple(map(Bind.parse, (first, second)))

    with pytest.raises(ConfigurationError, match="twice|the same place") as caught:
        sockets.listen(ServerSettings(workers=1, binds=binds))
    assert str(binds[1]) in caught.value.message and caught.value.remedy == "leave one of them out"
    assert not list(tmp_path.iterdir())


def test_different_places_are_not_taken_for_one(tmp_path):
    texts = ("127.0.0.1:0", "127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/a", f"unix:{tmp_path}/b")
    opened = sockets.listen(ServerSettings(workers=1, binds=tuple(map(Bind.parse, texts))))
    sockets.close(opened)
    assert len({str(listener.bind) for listener in opened}) == 5


def test_a_successors_socket_is_not_removed(tmp_path):
    path = str(tmp_path / "h.sock")
    settings = ServerSettings(workers=1, binds=(Bind(path=path),))
    first = sockets.listen(settings)
    os.unlink(path)  # by an impatient operator
    second = sockets.listen(settings)
    sockets.close(first)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    sockets.close(second)


def listening(*texts, held=()):
    return sockets.listen(ServerSettings(workers=1, binds=tuple(map(Bind.parse, texts))), held)


def test_what_is_held_is_taken_over_and_the_rest_is_opened(tmp_path):
    path = f"unix:{tmp_path}/a"
    held = listening("127.0.0.1:0", "127.0.0.1:0", path)
    again = listening(path + ",mode=0600", "127.0.0.1:0", "[::1]:0", held=held)
    assert again[0] is held[2] and again[1] is held[0] and again[2] not in held
    assert held[1].sock.fileno() >= 0
    sockets.close([*again, held[1]])


def test_nothing_that_is_held_is_closed_when_something_cannot_be_opened(tmp_path):
    held = listening("127.0.0.1:0")
    with pytest.raises(ConfigurationError, match="cannot resolve"):
        listening("127.0.0.1:0", "two..dots:1", held=held)
    with pytest.raises(ConfigurationError, match="No such file"):
        listening("127.0.0.1:0", f"unix:{tmp_path}/none/x", held=held)
    socket.create_connection(held[0].sock.getsockname(), 5).close()
    sockets.close(held)


def test_a_socket_file_that_was_replaced_is_not_taken_over(tmp_path):
    path = tmp_path / "a"
    held = listening(f"unix:{path}")
    path.unlink()
    again = listening(f"unix:{path}", held=held)
    assert again[0] is not held[0]
    sockets.close([*held, *again])


def test_an_address_that_stands_in_the_way_of_another_of_ours(tmp_path):
    held = listening("127.0.0.1:0")
    port = held[0].bind.port
    held[0].wanted = places._look_up(Bind("127.0.0.1", port))  # as if it had been asked for by number
    with pytest.raises(ConfigurationError, match=f"while this server listens on 127.0.0.1:{port}") as caught:
        listening(f"0.0.0.0:{port}", held=held)
    assert "restart" in caught.value.remedy and not isinstance(caught.value, sockets.Taken)
    sockets.close(held)


def test_a_plugged_listener_lets_out_what_it_holds_and_nobody_in():
    (listener,) = listening("127.0.0.1:0")
    address = listener.sock.getsockname()
    with socket.create_connection(address, 5) as before:
        sockets.plug([listener])
        with pytest.raises(TimeoutError):
            socket.create_connection(address, 0.3)
        before.sendall(b"x")
        accepted, _ = listener.sock.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
    listener.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.sock.accept()
    sockets.close([listener])


def test_an_inherited_listener_is_left_to_its_owner(tmp_path):
    path = tmp_path / "a"
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(path))
        unix.listen()
        listeners = sockets.inherit([socket.socket(fileno=os.dup(sock.fileno())) for sock in (tcp, unix)])
        assert [str(each.bind) for each in listeners] == [f"127.0.0.1:{tcp.getsockname()[1]}", f"unix:{path}"]
        sockets.plug(listeners)
        sockets.close(listeners)
        socket.create_connection(tcp.getsockname(), 5).close()
        assert path.exists()
