"""Which implementation each station of a paste file gets, when one is left out, and what the log says of it."""

import itertools
import json
import logging
import re
import threading

import pytest
from oslo_middleware import request_id
from pipeline_rig import OPEN, PASTE, Engine, configuration, edited, loaded, running

from heatperf.config.options import LEAN_STATIONS
from heatperf.errors import ConfigurationError
from heatperf.pipeline import known
from heatperf.pipeline.native import NativeApp

HERE = __name__
DEFAULT = "[paste_deploy]\n"
PROXIES = "[oslo_middleware]\nenable_proxy_headers_parsing = true\n"


def strange(_global_conf, **_local_conf):
    """A filter nobody knows, with an answer that WebOb would change: the status has no reason."""

    def wrap(app):
        def filtered(environ, start_response):
            if environ["PATH_INFO"] != "/strange":
                return app(environ, start_response)
            start_response("201", [("Location", "elsewhere"), ("Content-Length", "0")])
            return [b""]

        return filtered

    return wrap


def teller(_global_conf, **_local_conf):
    """A filter nobody knows that tells in which thread it was called, and whether something is known of the caller."""

    def wrap(app):
        def tell(environ, start_response):
            Told.threads.append(threading.get_ident())
            Told.callers.append("heatperf.caller" in environ)
            return app(environ, start_response)

        return tell

    return wrap


class MyRequestId(request_id.RequestId):
    """What Nova makes of the filter that is known."""

    compat_headers = ("x-compute-request-id",)


class Told:
    threads: list
    callers: list


@pytest.fixture(autouse=True)
def told():
    Told.threads, Told.callers = [], []


def how(pipeline):
    return {station.name: station.how for station in pipeline.parts.stations}


def stock(names):
    return f"[heatperf]\nstock_filters = {names}\n"


class TestChoice:
    def test_every_day(self, tmp_path):
        found = how(loaded(configuration(tmp_path, DEFAULT)))
        assert {name for name, text in found.items() if text == "lean"} == {
            "Paste#urlmap", "cors", "request_id", "faultwrap", "versionnegotiation", "authurl", "context",
        }  # fmt: skip
        left_out = {name for name, text in found.items() if text == "lean, nothing to do: left out"}
        assert left_out == {"http_proxy_to_wsgi", "osprofiler"}
        assert re.fullmatch("lean, .*native threads: at most 16 requests at once for each", found["authtoken"])
        assert (found["healthcheck"], found["apiv1app"]) == ("stock", "own")

    def test_all_stock(self, tmp_path):
        found = how(loaded(configuration(tmp_path, DEFAULT + stock("all"))))
        assert {text.partition(",")[0] for text in found.values()} == {"stock", "own"}
        assert [name for name, text in found.items() if text == "own"] == ["apiv1app"]

    @pytest.mark.parametrize("kind", LEAN_STATIONS)
    def test_each_kind_by_itself(self, tmp_path, kind):
        sections = "[filter:audit]\npaste.filter_factory = keystonemiddleware.audit:filter_factory\n"
        line = "request_id cors faultwrap http_proxy_to_wsgi audit osprofiler noauth context authurl"
        paste = edited(sections, {"default": f"{line} authtoken versionnegotiation apiv1app"})
        paste = paste.replace("use = egg:Paste#urlmap", "use = call:paste.urlmap:urlmap_factory")
        text = DEFAULT + "[audit_middleware_notifications]\nuse_oslo_messaging = false\n"
        before = how(loaded(configuration(tmp_path, text, paste)))
        after = how(loaded(configuration(tmp_path, text + stock(kind), paste)))
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"heat-api" if kind == "urlmap" else kind}
        assert all(after[name].startswith("stock") for name in changed)

    @pytest.mark.parametrize("names", ["nope", "cors,Cors", "all,healthcheck", "apiv1app"])
    def test_what_has_no_two_implementations_is_refused(self, tmp_path, names):
        with pytest.raises(ConfigurationError) as caught:
            loaded(configuration(tmp_path, OPEN + stock(names)))
        assert caught.value.option == "[heatperf] stock_filters"
        assert "versionnegotiation" in str(caught.value) and repr(names.split(",")[-1]) in str(caught.value)

    def test_subclasses_of_what_is_known_are_not_known(self, tmp_path):
        paste = edited("", {"noauth": "cors request_id faultwrap noauth context versionnegotiation apiv1app"})
        paste = paste.replace("oslo_middleware.request_id:RequestId.factory", f"{HERE}:MyRequestId.factory")
        assert "not known" in how(loaded(configuration(tmp_path, OPEN, paste)))["request_id"]

    def test_older_spelling_of_the_url_map(self, tmp_path):
        paste = PASTE.replace("use = egg:Paste#urlmap", "paste.composite_factory = heat.api:root_app_factory")
        for text in (OPEN, OPEN + stock("urlmap")):
            with running(tmp_path, text, paste) as worker:
                assert worker.get("/healthcheck").status == 200
                assert worker.get("//v1//admin/stacks").status == 200

    def test_heat_stations_named_by_the_generic_factory_and_by_their_own(self):
        for name, target in known.HEAT_NAMES.items():
            kind = known.kind_of(known.resolve(name))
            assert kind == (target.split(":")[0].rpartition(".")[2] if kind else None)


class TestAmongStrangers:
    """Stations that rely on what surrounds them: with a filter nobody knows, nothing may be taken for granted."""

    LINE = "{} cors request_id faultwrap http_proxy_to_wsgi {} noauth context osprofiler {} versionnegotiation apiv1app"

    @pytest.mark.parametrize("place", range(3))
    def test_answers_are_those_of_stock(self, tmp_path, place):
        line = self.LINE.format(*("strange" if number == place else "" for number in range(3)))
        paste = edited(f"[filter:strange]\npaste.filter_factory = {HERE}:strange\n", {"noauth": line})
        found = []
        for text in (OPEN, OPEN + stock("all")):
            with running(tmp_path, text, paste) as worker:
                assert "left out" not in "".join(how(worker.pipeline).values())
                answers = [worker.get(path) for path in ("/strange", "/v1/admin/stacks", "/", "/nope", "/v1/b/stacks")]
                answers += [worker.request(method, "/strange") for method in ("HEAD", "OPTIONS")]
            here = f"http://127.0.0.1:{worker.port}/"
            places = [each.headers.get("location", "").replace(here, "here:") for each in answers]
            found.append([(each.status, sorted(each.headers), at) for each, at in zip(answers, places, strict=True)])
        assert found[0] == found[1]
        # where none of the others stands above it, the HTTP layer refuses its status
        assert (found[0][0][0], found[0][0][2]) == ((201, "here:elsewhere") if place else (500, ""))

    def test_a_composite_may_build_anything(self, tmp_path):
        paste = PASTE.replace("use = egg:Paste#urlmap", f"paste.composite_factory = {HERE}:composite")
        pipeline = loaded(configuration(tmp_path, DEFAULT, paste))
        assert not pipeline.parts.known_only
        assert how(pipeline)["http_proxy_to_wsgi"] == "lean"

    @pytest.mark.parametrize("switched", ["conf", "section", "section of a section"])
    @pytest.mark.parametrize("form", ["pipeline", "filter-app"])
    def test_whoever_believes_proxies_is_found_before_anything_is_built(self, tmp_path, switched, form):
        text = OPEN + (PROXIES if switched == "conf" else "")
        believe = "enable_proxy_headers_parsing = true\n"
        paste = edited("", {"noauth": "request_id faultwrap noauth context versionnegotiation apiv1app"})
        paste = paste.replace("[composite:heat-api]", "[composite:inner]").replace("/healthcheck:", "#")
        factory = "paste.filter_factory = oslo_middleware:HTTPProxyToWSGI.factory\n"
        first = factory + (believe if switched == "section" else "")
        paste += f"[filter:one]\n{first}[filter:two]\nuse = one\n"
        paste += believe if switched == "section of a section" else ""
        if form == "pipeline":
            paste += "[pipeline:heat-api]\npipeline = two inner\n"
        else:
            paste += "[filter-app:heat-api]\nuse = two\nnext = inner\n"
        proxy = {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "f.example"}
        engine = Engine(lambda method, *_: {"stack_name": "s", "stack_id": "1", "tenant": "admin", "path": ""})
        found = []
        for filters in ("", stock("all")):
            with running(tmp_path, text + filters, paste, engine) as worker:
                assert not worker.pipeline.parts.known_only
                answer = worker.request("GET", "/v1/admin/stacks/s/resources", proxy)
            found.append((answer.status, answer.headers["location"]))
        assert found[0] == found[1]
        # each station between application and server has put a prefix before it, as upstream's
        assert found[0][0] == 302 and found[0][1].count("https, http://") > 2


def composite(loader, global_conf, **local_conf):
    """A composite that builds one of the applications it names."""
    return loader.get_app(local_conf["/"], global_conf=global_conf)


class TestCors:
    def test_own_configuration_files_count(self, tmp_path):
        """Whatever files the server has: with oslo_config_project the filter reads its own."""
        (tmp_path / "own.conf").write_text("[cors]\nallowed_origin = https://own.example\n")
        paste = PASTE.replace(
            "oslo_config_project = heat", f"oslo_config_project = heat\noslo_config_file = {tmp_path}/own.conf"
        )
        text = OPEN + "[cors]\nallowed_origin = https://server.example\n"
        with running(tmp_path, text, paste) as worker:
            allowed = {
                origin: worker.get("/", Origin=f"https://{origin}.example").headers.get("access-control-allow-origin")
                for origin in ("own", "server")
            }
        assert allowed == {"own": "https://own.example", "server": None}

    def test_options_is_never_refused(self, tmp_path):
        with running(tmp_path, DEFAULT) as worker:
            for path in ("/v1/p/stacks", "/nope", "/v9"):
                answer = worker.request("OPTIONS", path)
                assert (answer.status, answer.body) == (200, b"")
                assert answer.headers["content-length"] == "0" and "content-type" not in answer.headers

    def test_its_section_is_checked(self, tmp_path):
        with pytest.raises(ConfigurationError, match="allowed_origin or oslo_config_project is required"):
            loaded(configuration(tmp_path, OPEN, PASTE.replace("oslo_config_project = heat\n", "")))


class TestAudit:
    """keystonemiddleware's, its events in the log."""

    LINE = "request_id faultwrap {} noauth context versionnegotiation apiv1app"
    LOG = OPEN + "[audit_middleware_notifications]\nuse_oslo_messaging = false\n"

    @pytest.fixture
    def audited(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        log = logging.getLogger("test.audit")
        log.setLevel(logging.INFO)

        def run(calls, section="", text=self.LOG):
            paste = edited(
                "[filter:audit]\npaste.filter_factory = keystonemiddleware.audit:filter_factory\n"
                f"log_name = test.audit\n{section}",
                {"noauth": self.LINE.format("audit")},
            )
            with running(tmp_path, text, paste) as worker:
                pools = [part for part in worker.pipeline.parts.startables if isinstance(part, NativeApp)]
                for method, path in calls:
                    assert worker.request(method, path).status == 200
                threads = {record.thread for record in caplog.records if "Event type" in record.getMessage()}
                assert worker.thread_id not in threads and len(pools) == 1
                return [record for record in caplog.records if "Event type" in record.getMessage()]

        return run

    def test_two_events_per_request(self, audited):
        assert len(audited([("GET", "/v1/admin/stacks")])) == 2

    @pytest.mark.parametrize("section", ["ignore_req_list = put, get\n", "ignore_path_list = /x,/v1/admin/stacks\n"])
    @pytest.mark.parametrize("text", ["", stock("audit")])
    def test_what_it_ignores_makes_no_event(self, audited, section, text):
        assert audited([("GET", "/v1/admin/stacks")], section, self.LOG + text) == []

    @pytest.mark.parametrize("section", ["ignore_req_list = put, get", "ignore_path_list = /x,/v1/admin/stacks"])
    def test_what_it_ignores_needs_no_thread(self, tmp_path, section):
        """The pool is full of a request that waits; ignored ones pass it by."""
        gate = threading.Event()
        paste = edited(
            f"[filter:audit]\npaste.filter_factory = keystonemiddleware.audit:filter_factory\n{section}\n",
            {"noauth": self.LINE.format("audit")},
        )
        text = self.LOG + "[heatperf]\nfilter_concurrency = 1\nfilter_queue = 0\n"
        with running(tmp_path, text, paste) as worker:
            pool = next(part.pool for part in worker.pipeline.parts.startables if isinstance(part, NativeApp))
            busy = threading.Event()
            held = threading.Thread(target=pool_is_held, args=(worker, pool, busy, gate))
            held.start()
            assert busy.wait(10)
            assert worker.get("/v1/admin/stacks").status == 200
            assert worker.request("DELETE", "/v1/admin/stacks/s").status == 503
            gate.set()
            held.join(10)


def pool_is_held(worker, pool, busy, gate):
    def hold():
        busy.set()
        gate.wait(10)

    worker.loop.run_on_loop(pool.run, hold)


def test_nothing_is_said_about_the_caller_below_a_stranger(tmp_path):
    paste = edited(
        f"[filter:first]\npaste.filter_factory = {HERE}:teller\n",
        {"noauth": "request_id faultwrap noauth first context versionnegotiation apiv1app"},
    )
    with running(tmp_path, OPEN, paste) as worker:
        for _ in range(3):
            assert worker.get("/v1/admin/stacks").status == 200
        assert worker.thread_id not in Told.threads
    assert Told.callers == [False] * 3


def test_lean_and_stock_pipelines_answer_alike(tmp_path):
    """What a client sees of both, but for ids and dates."""
    requests = [
        (method, path, headers)
        for (method, path), headers in itertools.product(
            itertools.product(
                ("GET", "HEAD", "OPTIONS", "POST", "DELETE"),
                ("/", "/versions", "/v1", "/v1/admin/stacks", "/v1/other/stacks", "/v1/admin/none", "/v2/x", "/%ff",
                 "/healthcheck", "/v1/admin/%C3%A4", "//v1//admin/stacks"),
            ),
            ({}, {"Accept": "application/json", "Content-Type": "application/xml"}),
        )
    ]  # fmt: skip
    (tmp_path / "policy.yaml").write_text('"stacks:index": "!"\n')
    answers = []
    for text in (OPEN, OPEN + stock("all")):
        text += f"[oslo_policy]\npolicy_file = {tmp_path}/policy.yaml\n"
        with running(tmp_path, text) as worker:
            found = [worker.request(*each) for each in requests]
            port = str(worker.port).encode()
        for each in found:
            each.headers.pop("date", None)
            if "x-openstack-request-id" in each.headers:
                each.headers["x-openstack-request-id"] = "id"
            each.body = each.body.replace(port, b"port")
        answers.append(found)
    for request, lean, other in zip(requests, *answers, strict=True):
        lean.headers["content-length"] = other.headers["content-length"] = ""
        assert lean == other, request
    assert {each.status for each in answers[0]} >= {200, 204, 300, 400, 403, 404, 405}
    assert json.loads(answers[0][0].body)["versions"]
