"""TLS files that cannot be used, the options of listeners, and the notification socket."""

import os
import socket
import subprocess

import pytest

from heatperf.errors import ConfigurationError
from heatperf.server import sockets
from heatperf.server.notify import notify
from heatperf.server.settings import TLS, Bind, ServerSettings


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
        sockets.tls_context(TLS(*files))
    assert caught.value.file == files[blamed] and words in str(caught.value)


def test_ca_file_demands_client_certificates(pairs):
    import ssl

    context = sockets.tls_context(TLS(*pairs["good"], ca_file=pairs["other"][0]))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with pytest.raises(ConfigurationError, match="ca_file"):
        sockets.tls_context(TLS(*pairs["good"], ca_file=pairs["junk"][0]))


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
    ("bind", "words"),
    [
        (Bind("192.0.2.1", 0), "no interface of this host"),
        (Bind("no.such.host.invalid", 1), "cannot resolve"),
        (Bind(path="/nonexistent/folder/x.sock"), "No such file"),
        (Bind(path="x" * 200), "too long"),
        (Bind(path="x.sock", owner="nobody-of-this-name"), "does not exist"),
    ],
)
def test_addresses_that_cannot_be_used(bind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=words):
        sockets.listen(ServerSettings(workers=1, binds=(bind,), bind_retry=0))


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


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path, abstract):
    name = f"@heatperf-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        assert notify("READY=1\nSTATUS=x", {"NOTIFY_SOCKET": name})
        assert systemd.recv(100) == b"READY=1\nSTATUS=x"


def test_notify_never_raises(tmp_path):
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "relative"})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
