"""template_url: in development mode no address of a private network is reached, however it is spelt or hidden.

A loopback address plays the public internet: 127.0.0.2, which these tests declare public. A table resolves names.
"""

import contextlib
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from oslo_config import cfg
from pipeline_rig import Engine, Worker, running

from heatperf.api import fetch, public_addresses
from heatperf.config.load import load
from heatperf.pipeline import application

PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
TEMPLATE = b"heat_template_version: 2018-08-31\n"


class Site:
    """A web server on all of loopback that counts what reaches it. ``redirects`` maps paths to addresses."""

    def __init__(self, context=None):
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append((self.connection.getsockname()[0], self.path))
                target = site.redirects.get(self.path)
                self.send_response(302 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", "0" if target else str(len(TEMPLATE)))
                self.end_headers()
                if not target:
                    self.wfile.write(TEMPLATE)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args):  # a client that hangs up on our certificate
                pass

        self.asked: list[tuple[str, str]] = []
        self.redirects: dict[str, str] = {}
        self._server = Server(("0.0.0.0", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, host, path="/t"):
        return f"http://{host}:{self.port}{path}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture
def internet(monkeypatch):
    """Declares PUBLIC public; returns the table of names, each with the answers that follow each other."""
    real_rule, real_resolver = public_addresses.is_public, socket.getaddrinfo
    names: dict[str, list[list[str]]] = {}

    def resolve(host, port, *args, **kwargs):
        if host not in names:
            return real_resolver(host, port, *args, **kwargs)
        answers = names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry for address in addresses for entry in real_resolver(address, port, *args, **kwargs)]

    monkeypatch.setattr(public_addresses, "is_public", lambda text: text == PUBLIC or real_rule(text))
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names


def refused(url):
    with pytest.raises(fetch.FetchError) as caught:
        fetch.fetch_public(url, 1000, 5.0)
    text = str(caught.value)
    assert text.startswith(f"Failed to retrieve template from {url}")
    return text


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "4000::1", "100::1"),
        *("2002:7f00:1::1", "2001::1"),
    ],
)
def test_not_public(address):
    assert not public_addresses.is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2a00:1450::1"]
)
def test_public(address):
    assert public_addresses.is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]"),
        *("[::ffff:127.0.0.1]", "x@127.0.0.1", "LOCALHOST."),
    ],
)
def test_spellings_of_this_machine(site, host):
    assert "no public address" in refused(site.url(host))
    assert site.asked == []


def test_names_that_lead_into_a_private_network(site, internet):
    internet["templates.example"] = [[PRIVATE, "10.0.0.1"]]
    refused(site.url("templates.example"))
    assert site.asked == []


def test_only_the_public_ones_of_a_name_are_used(site, internet):
    internet["templates.example"] = [[PRIVATE, PUBLIC]]
    assert fetch.fetch_public(site.url("templates.example"), 1000, 5.0) == TEMPLATE
    assert site.asked == [(PUBLIC, "/t")]


def test_name_that_changes_after_the_check(site, internet):
    internet["rebinding.example"] = [[PUBLIC], [PRIVATE]]
    assert fetch.fetch_public(site.url("rebinding.example"), 1000, 5.0) == TEMPLATE
    assert site.asked == [(PUBLIC, "/t")]


def test_every_redirect_is_checked(site, internet):
    internet["templates.example"] = [[PUBLIC]]
    site.redirects = {"/1": site.url("templates.example", "/2"), "/2": site.url("localhost", "/3")}
    refused(site.url("templates.example", "/1"))
    assert site.asked == [(PUBLIC, "/1"), (PUBLIC, "/2")]
    site.redirects["/2"] = "/3"
    assert fetch.fetch_public(site.url("templates.example", "/1"), 1000, 5.0) == TEMPLATE


def test_redirect_that_finds_its_name_changed(site, internet):
    """The second hop may use the connection of the first, or be refused; it must not resolve and go there."""
    internet["rebinding.example"] = [[PUBLIC], [PRIVATE]]
    site.redirects = {"/1": site.url("rebinding.example", "/2")}
    with contextlib.suppress(fetch.FetchError):
        fetch.fetch_public(site.url("rebinding.example", "/1"), 1000, 5.0)
    assert {address for address, _ in site.asked} == {PUBLIC}


def test_no_proxy_is_asked(site, internet, monkeypatch):
    proxy = f"http://{PRIVATE}:{site.port}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    internet["templates.example"] = [[PUBLIC]]
    assert fetch.fetch_public(site.url("templates.example"), 1000, 5.0) == TEMPLATE
    refused(site.url(PRIVATE))
    assert site.asked == [(PUBLIC, "/t")]


def test_next_address_after_one_that_does_not_answer(site, internet, monkeypatch):
    silent = "127.0.0.3"
    with socket.socket() as closed:
        closed.bind((silent, 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(public_addresses, "is_public", lambda text: text in (PUBLIC, silent))
    internet["both.example"] = [[silent, PUBLIC]]
    internet["none.example"] = [[silent]]
    assert fetch.fetch_public(site.url("both.example"), 1000, 5.0) == TEMPLATE
    refused(f"http://none.example:{port}/")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70 + ".example"])
def test_names_that_do_not_resolve(host):
    assert "public" not in refused(f"http://{host}/")


def test_tls_certificates_are_held_against_the_name(tmp_path, internet, monkeypatch):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=t", "-addext", "subjectAltName=DNS:right.example", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    internet.update({"right.example": [[PUBLIC]], "wrong.example": [[PUBLIC]], "inner.example": [[PRIVATE]]})
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cert)
    with contextlib.closing(Site(context)) as site:
        assert fetch.fetch_public(f"https://right.example:{site.port}/t", 1000, 5.0) == TEMPLATE
        refused(f"https://wrong.example:{site.port}/t")
        assert "no public address" in refused(f"https://inner.example:{site.port}/t")
        assert site.asked == [(PUBLIC, "/t")]


def test_limits_hold(site, internet):
    with pytest.raises(fetch.FetchError, match="exceeds maximum allowed size"):
        fetch.fetch_public(site.url(PUBLIC), 10, 5.0)
    with pytest.raises(fetch.FetchError, match="Invalid URL scheme file"):
        fetch.fetch_public("file:///etc/passwd", 10, 5.0)


def test_what_a_client_of_development_mode_sees(site, monkeypatch):
    load(cfg.CONF, [], development=True, adjust=lambda conf: conf.set_override("flavor", "noauth", "paste_deploy"))
    monkeypatch.setattr(application, "_transport", lambda *_: Engine())
    with contextlib.closing(Worker(application.build(cfg.CONF, "rpc", True))) as worker:
        answer = worker.request("POST", "/v1/demo/validate", body={"template_url": site.url(PRIVATE)})
    assert (answer.status, answer.json["error"]["type"], site.asked) == (400, "HTTPBadRequest", [])
    expected = f"Could not retrieve template: Failed to retrieve template from {site.url(PRIVATE)}"
    assert answer.json["error"]["message"].startswith(expected)


def test_other_servers_fetch_from_everywhere(site, tmp_path):
    engine = Engine(lambda *_: {})
    with running(tmp_path, transport=engine) as worker:
        answer = worker.request("POST", "/v1/admin/validate", body={"template_url": site.url(PRIVATE)})
    assert (answer.status, site.asked) == (200, [(PRIVATE, "/t")])
    assert engine.calls[0][1]["template"] == {"heat_template_version": "2018-08-31"}
