"""Each lean station answers as its stock implementation does, whatever the request and whatever is below it."""

import io
import os
import re
from types import SimpleNamespace

import pytest
import webob.exc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lean_rig import PATHS, Inner, Plan, environs, outcome, plans
from paste.urlmap import URLMap
from pipeline_rig import OPEN, configuration

from heatperf.errors import BodyTooLarge, Overloaded, heat
from heatperf.pipeline import (
    authurl,
    cors,
    faultwrap,
    http_proxy_to_wsgi,
    osprofiler,
    request_id,
    urlmap,
    versionnegotiation,
)
from heatperf.pipeline.heads import USUAL, PassThrough, passed_on, through_webob
from heatperf.pipeline.parts import Parts, loading

often = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck), database=None)
KNOWN = ("known", "wild")


def io_of(data=b""):
    return io.BytesIO(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lean")


@pytest.fixture(scope="module")
def conf(folder):
    return configuration(folder, OPEN)


class Pool:
    """Runs what it is given at once."""

    def run(self, function, *args):
        return function(*args)


class Pair:
    """A station in both implementations, each around an application of its own."""

    def __init__(self, conf, module, name="filter_factory", known_only=False, **section):
        self.inner = {}
        self.station = {}
        parts = Parts(conf, None, None, known_only=known_only)
        parts.auth_pool = Pool()
        with loading(parts):
            for kind in ("", "stock_"):
                inner = self.inner[kind] = Inner()
                factory = getattr(module, kind + name)
                heat_style = module in (faultwrap, versionnegotiation)
                made = factory(inner, conf) if heat_style else factory({}, **section)(inner)
                self.station[kind] = made

    def __call__(self, environ, plan=None):
        lean, stock = (outcome(self.station[kind], self.inner[kind], environ, plan) for kind in ("", "stock_"))
        assert lean == stock
        return lean


def pairs(*args, **kwargs):
    """The pair where everything around is known, and where it is not."""
    return {kind: Pair(*args, known_only=kind == "known", **kwargs) for kind in KNOWN}


WILD_SCHEMES = ("http", "https", "https, http", "ftp")


def requests(**kwargs):
    """What may come where only known stations are around, and what may come anywhere else."""
    known = st.tuples(st.just("known"), environs(**kwargs), plans(wild=False))
    return known | wild_requests(**kwargs)


def wild_requests(**kwargs):
    return st.tuples(st.just("wild"), environs(WILD_SCHEMES, True, **kwargs), plans(wild=True))


REQUESTS = requests()


class TestCors:
    CONFIGURED = (
        "",
        "allowed_origin = https://a.example,https://b.example\nallow_headers = X-A\nexpose_headers = X-E,X-F\n",
        "allowed_origin = *\nallow_credentials = no\nmax_age = 0\nallow_methods = GET,PUT\nallow_headers = x-a,X-B\n",
        "allowed_origin = *,https://a.example\nmax_age = 5\nallow_methods =\n",
    )

    @pytest.fixture(scope="class", params=CONFIGURED, ids=["nothing", "two", "any", "both"])
    def pair(self, request, conf, folder):
        path = folder / f"cors{self.CONFIGURED.index(request.param)}.conf"
        path.write_text("[cors]\n" + request.param)
        return pairs(conf, cors, oslo_config_project="heat", oslo_config_file=str(path))

    ASKING = ("HTTP_ORIGIN", "HTTP_ACCESS_CONTROL_REQUEST_METHOD", "HTTP_ACCESS_CONTROL_REQUEST_HEADERS")

    @given(requests(methods=("OPTIONS", "OPTIONS", "GET", "HEAD"), headers=ASKING))
    @settings(often, max_examples=150)
    def test_answers_as_stock(self, pair, case):
        kind, environ, plan = case
        pair[kind](environ, plan)

    def asked(self, **headers):
        environ = {"REQUEST_METHOD": "OPTIONS", "PATH_INFO": "/", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
        return environ | {"HTTP_" + name: value for name, value in headers.items()} | {"wsgi.input": io_of()}

    def test_preflight_of_an_allowed_origin_needs_no_stock_code(self, pair):
        environ = self.asked(ORIGIN="https://a.example", ACCESS_CONTROL_REQUEST_METHOD="GET")
        found = pair["known"](environ, Plan("401 Unauthorized"))
        assert (found["status"], found["body"]) == ("200 OK", b"")

    def test_dropped_answer_is_closed(self, conf, folder):
        closed = []

        class Chunks(list):
            def close(self):
                closed.append(True)

        def app(_environ, start_response):
            start_response("404 Not Found", [])
            return Chunks([b"x"])

        (folder / "empty.conf").write_text("")
        with loading(Parts(conf, None, None)):
            make = cors.filter_factory({}, oslo_config_project="heat", oslo_config_file=str(folder / "empty.conf"))
            station = make(app)
        assert station(self.asked(), lambda *_: None) == [b""]
        assert closed


class TestRequestId:
    @pytest.fixture(scope="class")
    def pair(self, conf):
        return pairs(conf, request_id)

    @given(REQUESTS)
    @often
    def test_answers_as_stock(self, pair, case):
        kind, environ, plan = case
        pair[kind](environ, plan)

    def test_ids_are_random_uuids_and_never_repeat(self):
        form = re.compile(r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
        ids = [request_id.new_id() for _ in range(1000)]
        assert all(form.fullmatch(one) for one in ids)
        assert len(set(ids)) == 1000
        assert {one[23] for one in ids} == set("89ab")

    def test_processes_that_are_forked_share_no_ids(self):
        request_id.new_id()  # fills the supply
        told = []
        for _ in range(2):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writing, "".join(request_id.new_id() for _ in range(40)).encode())
                os._exit(0)
            os.close(writing)
            with os.fdopen(reading) as pipe:
                told.append(pipe.read())
            assert os.waitpid(pid, 0)[1] == 0
        ids = [text[start : start + 40] for text in told for start in range(0, len(text), 40)]
        ids += [request_id.new_id() for _ in range(40)]
        assert len(set(ids)) == 120

    def test_header_list_of_an_application_stays_as_it_is(self, conf):
        headers = [("Content-Type", "text/plain")]

        def app(_environ, start_response):
            start_response("200 OK", headers)
            return [b""]

        with loading(Parts(conf, None, None)):
            station = request_id.filter_factory({})(app)
        seen = []
        environ = {"REQUEST_METHOD": "GET"}
        for _ in range(2):
            station(environ, lambda _status, given: seen.append(dict(given)["x-openstack-request-id"]))
        assert len(set(seen)) == 2 and headers == [("Content-Type", "text/plain")]


class TestHttpProxyToWsgi:
    @pytest.fixture(scope="class")
    def believing(self, conf, folder):
        (folder / "proxy.conf").write_text("[oslo_middleware]\nenable_proxy_headers_parsing = true\n")
        return Pair(conf, http_proxy_to_wsgi, oslo_config_project="heat", oslo_config_file=str(folder / "proxy.conf"))

    @pytest.fixture(scope="class")
    def idle(self, conf):
        return pairs(conf, http_proxy_to_wsgi)

    @given(wild_requests(headers=("HTTP_FORWARDED",)) | wild_requests())
    @settings(often, max_examples=120)
    def test_believes_what_stock_does(self, believing, case):
        _kind, environ, plan = case
        believing(environ, plan)

    @pytest.mark.parametrize(
        "forwarded",
        ["PROTO = https ; For=[::1]", "for=1.2.3.4;proto=ftp, proto=http", "host=a=b; HOST=c", "proto=;host=", ";,;"],
    )
    def test_forms_of_forwarded(self, believing, forwarded):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
        believing(environ | {"HTTP_FORWARDED": forwarded, "wsgi.input": io_of()})

    @given(REQUESTS)
    @often
    def test_does_nothing_as_stock_does(self, idle, case):
        kind, environ, plan = case
        idle[kind](environ, plan)

    def test_is_left_out_where_it_does_nothing(self, idle):
        assert idle["known"].station[""] is idle["known"].inner[""]
        assert isinstance(idle["wild"].station[""], PassThrough)


class TestOsprofiler:
    @pytest.fixture(scope="class")
    def pair(self, conf):
        assert not conf.profiler.enabled
        return pairs(conf, osprofiler, "factory", hmac_keys="k")

    @given(REQUESTS)
    @often
    def test_does_nothing_as_stock_does(self, pair, case):
        kind, environ, plan = case
        pair[kind](environ, plan)

    def test_is_left_out(self, pair):
        assert pair["known"].station[""] is pair["known"].inner[""]


class TestVersionNegotiation:
    @pytest.fixture(scope="class")
    def pair(self, conf):
        return pairs(conf, versionnegotiation, "factory")

    @given(REQUESTS)
    @often
    def test_answers_as_the_reference(self, pair, case):
        kind, environ, plan = case
        pair[kind](environ, plan)

    def test_every_path_twice(self, pair):
        """The second answer may come from what was kept of the first."""
        for path in PATHS:
            for method in ("GET", "HEAD", "GET"):
                for extra in ({}, {"HTTP_HOST": "h.example"}, {"HTTP_HOST": "h.example", "SCRIPT_NAME": "/x"}):
                    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "", "SERVER_NAME": "s"}
                    environ |= {"SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": io_of()}
                    pair["known"](environ | extra)

    def test_lists_are_not_shared_by_their_headers(self, conf):
        with loading(Parts(conf, None, None)):
            station = versionnegotiation.factory(Inner(), conf)
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "HTTP_HOST": "h"}
        environ["wsgi.url_scheme"] = "http"
        lists = []
        for _ in range(2):
            station(environ, lambda _status, headers: (headers.append(("X", "y")), lists.append(headers)))
        assert [len(headers) for headers in lists] == [3, 3]

    def test_what_is_kept_of_clients_is_bounded(self, conf):
        with loading(Parts(conf, None, None)):
            station = versionnegotiation.factory(Inner(), conf)
        for number in range(1000):
            for host in (f"h{number}", f"h{number}" * 500):
                environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "HTTP_HOST": host}
                body = station(environ | {"wsgi.url_scheme": "http"}, lambda *_: None)
                assert host.encode() in body[0]
        kept = station._lists
        assert len(kept) <= 100 and sum(len(key[1]) for key in kept) < 100_000


class TestAuthUrl:
    @pytest.fixture(
        scope="class",
        params=[
            {},
            {"keystone_authtoken.www_authenticate_uri": "http://ks.example/v2.0"},
            {"auth_password.multi_cloud": True, "auth_password.allowed_auth_uris": ["http://one.example/v3"]},
        ],
        ids=["nothing", "configured", "several"],
    )
    def pair(self, request, conf):
        for name, value in request.param.items():
            group, _, option = name.partition(".")
            conf.set_override(option, value, group)
        yield {
            kind: pairs(conf, authurl, **section) for kind, section in (("", {}), ("p", {"auth_uri": "http://p/v3"}))
        }
        for name in request.param:
            group, _, option = name.partition(".")
            conf.clear_override(option, group)

    @given(REQUESTS, st.sampled_from(["", "p"]))
    @often
    def test_answers_as_the_reference(self, pair, case, section):
        kind, environ, plan = case
        pair[section][kind](environ, plan)


TEXTS = (
    "",
    "plain",
    'quote " \\ and \u00e4\u20ac\U0001f600',
    "\ud800",
    "a\x00\x1f",
    "x\nTraceback (most recent call last)\n y",
)
KINDS = sorted(heat.BY_NAME.keys() - {"HTTPExceptionDisguise"})


def of_kind(name, text):
    kind = heat.BY_NAME[name]
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    error.message = text
    error.remote_trace = None
    return error


@st.composite
def faults(draw):
    """Exceptions as they arise here, in libraries and in engines."""
    text = draw(st.sampled_from(TEXTS))
    which = draw(st.integers(0, 5))
    if which == 0:
        error = of_kind(draw(st.sampled_from(KINDS)), text)
        if draw(st.booleans()):
            error.remote_trace = "Traceback of the engine"
        return error
    if which == 1:
        kinds = [webob.exc.HTTPForbidden, webob.exc.HTTPNotFound, webob.exc.HTTPBadRequest, webob.exc.HTTPConflict]
        answer = draw(st.sampled_from(kinds))(draw(st.sampled_from([None, text])))
        if draw(st.integers(0, 3)) == 0:
            answer.explanation = "its own"
        return heat.HTTPExceptionDisguise(answer)
    if which == 2:
        return draw(st.sampled_from([Overloaded("full", 3), BodyTooLarge(7), webob.exc.HTTPNotFound(text)]))
    if which == 3:
        return heat.HTTPExceptionDisguise(ValueError(text))
    error = draw(st.sampled_from([ValueError, KeyError, RuntimeError, AttributeError, OSError]))(text)
    if draw(st.booleans()):
        error.safe = True
    return error


NO_DEBUG = SimpleNamespace(debug=False)


class TestFaults:
    @pytest.fixture(scope="class", params=[False, True], ids=["", "debug"])
    def pair(self, request, conf):
        conf.set_override("debug", request.param)
        yield pairs(conf, faultwrap, "factory")
        conf.clear_override("debug")

    @given(REQUESTS, faults())
    @example(("known", {"REQUEST_METHOD": "GET", "wsgi.input": io_of()}, Plan()), heat.Forbidden(action="stacks:index"))
    @often
    def test_answers_as_the_reference(self, pair, case, error):
        kind, environ, _plan = case
        pair[kind](environ, Plan(error=error))

    @given(REQUESTS)
    @often
    def test_answers_pass_as_they_are(self, pair, case):
        kind, environ, plan = case
        if plan.error is None:
            pair[kind](environ, plan)

    def test_what_is_kept_of_classes_is_bounded(self):
        station = faultwrap.FaultWrapper(Inner(), NO_DEBUG)
        environ = {"REQUEST_METHOD": "GET", "wsgi.input": io_of()}
        for number in range(2000):
            kind = type(f"Error{number}", (ValueError,), {})
            body = outcome(station.render(kind("x"), environ), Inner(), environ)
            assert f"Error{number}".encode() in body["body"]
        assert len(station._raised) <= 500

    def test_a_class_is_told_from_its_namesake_in_disguise(self):
        station = faultwrap.FaultWrapper(Inner(), NO_DEBUG)
        environ = {"REQUEST_METHOD": "GET", "wsgi.input": io_of()}
        raised, hidden = webob.exc.HTTPNotFound(), heat.HTTPExceptionDisguise(webob.exc.HTTPNotFound())
        for _ in range(2):
            found = [outcome(station.render(error, environ), Inner(), environ)["status"] for error in (raised, hidden)]
            assert found == ["500 Internal Server Error", "404 Not Found"]


class TestUrlMap:
    MAPS = (
        {"/": "root", "/healthcheck": "health"},
        {"/healthcheck": "health"},
        {"/a": "a", "/a/b": "b", "/": "root", "/healthcheck/": "health"},
        {"domain h.example /": "h", "/": "root"},
    )

    class Loader:
        def __init__(self):
            self.inner = {}

        def get_app(self, name, global_conf=None):
            return self.inner.setdefault(name, Inner())

    @pytest.fixture(scope="class", params=MAPS, ids=str)
    def both(self, request):
        loader = self.Loader()
        made = urlmap.composite_factory(loader, {}, **request.param)
        stock = urlmap.stock_composite_factory(loader, {}, **request.param)
        assert isinstance(stock, URLMap)
        return made, stock, loader

    @given(environs())
    @often
    def test_leads_where_stock_does(self, both, environ):
        *maps, loader = both
        found = []
        for each in maps:
            for inner in loader.inner.values():
                inner.given = None
            come = outcome(each, Inner(), environ)
            come["afterwards"].pop("paste.urlmap_object", None)
            found.append((come, {name: inner.given for name, inner in loader.inner.items()}))
        assert found[0] == found[1]


class TestHeads:
    @given(plans(wild=True), environs(("http", "ftp")))
    @often
    def test_as_webob_passes_it_on(self, plan, environ):
        def of(function):
            try:
                return function(environ, plan.status, plan.headers)
            except ValueError as error:
                return str(error)

        assert of(passed_on) == of(through_webob)

    def test_usual_statuses_are_not_touched(self):
        for status in USUAL:
            assert through_webob({"REQUEST_METHOD": "GET"}, status, []) == (status, [])


class TestLinks:
    """The broken Location under a scheme that is none: one prefix per station, as upstream's filters add them."""

    @pytest.mark.parametrize(("known_only", "prefixes"), [(False, 2), (True, 1)])
    def test_each_station_adds_one(self, conf, known_only, prefixes):
        plan = Plan("302 Found", [("Location", "https, http://h.example/x")])
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/p", "SCRIPT_NAME": "", "HTTP_HOST": "h.example"}
        environ |= {"wsgi.url_scheme": "https, http", "wsgi.input": io_of()}
        made = [Pair(conf, module, "factory", known_only) for module in (faultwrap, versionnegotiation)]
        made.append(Pair(conf, authurl, known_only=known_only))
        for pair in made:
            (_name, location), *_ = pair(environ, plan)["headers"]
            # where only known stations are, no scheme is like this one, and none is looked for
            assert location.count("https, http://") == prefixes
