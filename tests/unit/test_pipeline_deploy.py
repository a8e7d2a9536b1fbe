"""Loading api-paste.ini: every form in the field, names of upstream, and refusals that say what to do."""

import importlib.util
import logging
import sys

import pytest
from pipeline_rig import OPEN, PASTE, configuration, edited, loaded, running
from stack import paths

from heatperf.errors import ConfigurationError
from heatperf.pipeline import deploy, parts
from heatperf.pipeline.native import NativeApp

# As Stein's file had it: one pipeline per flavor, named heat-api-<flavor>.
STEIN = """
[pipeline:heat-api]
pipeline = cors request_id faultwrap http_proxy_to_wsgi versionnegotiation authurl authtoken context osprofiler apiv1app
[pipeline:heat-api-standalone]
pipeline = cors request_id faultwrap http_proxy_to_wsgi versionnegotiation authurl authpassword context apiv1app
[pipeline:heat-api-custombackend]
pipeline = cors request_id context faultwrap versionnegotiation custombackendauth apiv1app
[pipeline:heat-api-noauth]
pipeline = cors request_id faultwrap noauth context http_proxy_to_wsgi versionnegotiation apiv1app
[pipeline:heat-api-cfn]
pipeline = cors request_id http_proxy_to_wsgi cfnversionnegotiation authtoken context apicfnv1app
[app:apicfnv1app]
paste.app_factory = heat.common.wsgi:app_factory
heat.app_factory = heat.api.cfn.v1:API
[filter:cfnversionnegotiation]
paste.filter_factory = heat.common.wsgi:filter_factory
heat.filter_factory = heat.api.cfn:version_negotiation_filter
[app:apiv1app]
paste.app_factory = heat.common.wsgi:app_factory
heat.app_factory = heat.api.openstack.v1:API
[filter:versionnegotiation]
paste.filter_factory = heat.common.wsgi:filter_factory
heat.filter_factory =
    heat.api.openstack:version_negotiation_filter
[filter:cors]
paste.filter_factory = oslo_middleware.cors:filter_factory
oslo_config_project = heat
[filter:faultwrap]
paste.filter_factory = heat.common.wsgi:filter_factory
heat.filter_factory = heat.api.openstack:faultwrap_filter
[filter:context]
paste.filter_factory = heat.common.context:ContextMiddleware_filter_factory
[filter:authurl]
paste.filter_factory = heat.common.auth_url:filter_factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:authpassword]
paste.filter_factory = heat.common.auth_password:filter_factory
[filter:custombackendauth]
paste.filter_factory = heat.common.custom_backend_auth:filter_factory
[filter:noauth]
paste.filter_factory = heat.common.noauth:filter_factory
[filter:request_id]
paste.filter_factory = oslo_middleware.request_id:RequestId.factory
[filter:osprofiler]
paste.filter_factory = osprofiler.web:WsgiMiddleware.factory
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware:HTTPProxyToWSGI.factory
"""
HERE = __name__


def tag_filter(_global_conf, tag="?"):
    """A filter that adds its tag to the path the application is asked for."""

    def wrap(app):
        def tagged(environ, start_response):
            environ["test.tags"] = [*environ.get("test.tags", ()), tag]
            return app(environ, start_response)

        return tagged

    return wrap


def tag_filter_app(app, _global_conf, tag="?"):
    """The same as paste.filter_app_factory."""
    return tag_filter({}, tag)(app)


def tags_app(_global_conf, **_local_conf):
    """An application that answers with the tags it met."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [" ".join(environ.get("test.tags", ["none"])).encode()]

    return app


def tags_composite(loader, _global_conf, inner):
    """A composite that builds the application it names."""
    return loader.get_app(inner)


def broken_filter(_global_conf, **_local_conf):
    """A filter that does not like its configuration."""
    raise ValueError("audit_map_file is not readable")


def names(pipeline):
    return [station.name for station in pipeline.parts.stations]


def refusal(tmp_path, text, paste):
    with pytest.raises(ConfigurationError) as caught:
        loaded(configuration(tmp_path, text, paste))
    return str(caught.value)


def flavored(flavor):
    return OPEN.replace("flavor = noauth\n", f"flavor = {flavor}\n" if flavor else "")


class TestForms:
    @pytest.mark.parametrize(
        ("flavor", "station"),
        [
            (None, "authtoken"),
            ("standalone", "authpassword"),
            ("custombackend", "custombackendauth"),
            ("noauth", "noauth"),
        ],
    )
    @pytest.mark.parametrize(
        "paste", [PASTE, paths.upstream_paste_file().read_text(), STEIN], ids=["ours", "upstream", "stein"]
    )
    def test_every_flavor_of_both_forms(self, tmp_path, flavor, station, paste):
        pipeline = loaded(configuration(tmp_path, flavored(flavor), paste))
        found = names(pipeline)
        guards = {"authtoken", "authpassword", "custombackendauth", "noauth"} & set(found)
        assert guards == {station}
        assert found.count("apiv1app") == 1 and "context" in found
        assert all("not known" not in entry.how for entry in pipeline.parts.stations)
        # each router that was built will be started, and only that one
        assert len(pipeline.parts.startables) == 1

    def test_stein_takes_a_request(self, tmp_path):
        with running(tmp_path, paste=STEIN) as worker:
            assert worker.get("/v1/admin/stacks").json == {"stacks": []}
            assert worker.get("/healthcheck").status == 404  # Stein's file maps no such path

    def test_section_with_the_flavor_wins_over_the_plain_one(self, tmp_path):
        paste = PASTE + f"\n[app:heat-api-noauth]\npaste.app_factory = {HERE}:tags_app\n"
        with running(tmp_path, paste=paste) as worker:
            assert worker.get("/anything").body == b"none"

    def test_other_applications_of_the_file_do_not_matter(self, tmp_path):
        # heat-api-cfn's sections stand in every old file, and name what is not there
        assert "apicfnv1app" not in names(loaded(configuration(tmp_path, paste=STEIN)))

    def test_edited_file_with_healthcheck_as_first_filter(self, tmp_path):
        paste = edited(
            "[filter:health]\npaste.filter_factory = oslo_middleware:Healthcheck.factory\npath = /alive\n",
            {"noauth": "health cors request_id faultwrap noauth context versionnegotiation apiv1app"},
        )
        with running(tmp_path, paste=paste) as worker:
            alive = worker.get("/alive")
            assert (alive.status, "x-openstack-request-id" in alive.headers) == (200, False)
            assert worker.get("/v1/admin/stacks").status == 200

    def test_root_app_factory_of_older_files(self, tmp_path):
        paste = PASTE.replace("use = egg:Paste#urlmap", "paste.composite_factory = heat.api:root_app_factory")
        assert paste != PASTE
        with running(tmp_path, paste=paste) as worker:
            assert worker.get("/healthcheck").status == 200
            assert worker.get("/v1/admin/stacks").status == 200


class TestUse:
    """PasteDeploy's own ways to say what a section is."""

    def served(self, tmp_path, paste):
        with running(tmp_path, paste=f"{paste}[app:inner]\npaste.app_factory = {HERE}:tags_app\n") as worker:
            return worker.get("/").body.decode()

    def test_filter_with(self, tmp_path):
        paste = (
            "[app:heat-api]\nuse = inner\nfilter-with = a\n"
            f"[filter:a]\npaste.filter_factory = {HERE}:tag_filter\ntag = A\nfilter-with = b\n"
            f"[filter:b]\npaste.filter_factory = {HERE}:tag_filter\ntag = B\n"
        )
        assert self.served(tmp_path, paste) == "B A"

    def test_filter_app_sections(self, tmp_path):
        paste = f"[filter-app:heat-api]\npaste.filter_factory = {HERE}:tag_filter\ntag = FA\nnext = inner\n"
        assert self.served(tmp_path, paste) == "FA"

    def test_filter_app_factory(self, tmp_path):
        paste = (
            "[pipeline:heat-api]\npipeline = a inner\n"
            f"[filter:a]\npaste.filter_app_factory = {HERE}:tag_filter_app\ntag = Z\n"
        )
        assert self.served(tmp_path, paste) == "Z"

    def test_call(self, tmp_path):
        paste = f"[pipeline:heat-api]\npipeline = a inner\n[filter:a]\nuse = call:{HERE}:tag_filter\ntag = C\n"
        assert self.served(tmp_path, paste) == "C"

    def test_another_section_with_settings_on_top(self, tmp_path):
        paste = (
            "[pipeline:heat-api]\npipeline = b inner\n[filter:b]\nuse = a\ntag = over\n"
            f"[filter:a]\npaste.filter_factory = {HERE}:tag_filter\ntag = under\n"
        )
        assert self.served(tmp_path, paste) == "over"

    def test_names_of_upstream_in_another_file(self, tmp_path):
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "other.ini").write_text(PASTE)
        paste = (
            "[pipeline:heat-api]\npipeline = request_id wrap noauth context versionnegotiation api\n"
            "[filter:request_id]\nuse = egg:oslo.middleware#request_id\n"
            "[filter:wrap]\nuse = config:more/other.ini#faultwrap\n"
            "[filter:noauth]\nuse = config:more/other.ini#noauth\n"
            "[filter:context]\nuse = config:more/other.ini#context\n"
            "[filter:versionnegotiation]\nuse = config:more/other.ini#versionnegotiation\n"
            "[app:api]\nuse = config:more/other.ini#apiv1app\n"
        )
        with running(tmp_path, paste=paste) as worker:
            answer = worker.get("/v1/admin/nothing")
            assert (answer.status, answer.headers["x-openstack-request-id"][:4]) == (404, "req-")
            assert worker.get("/v1/admin/stacks").json == {"stacks": []}

    def test_another_file_sees_the_defaults_of_the_first(self, tmp_path):
        (tmp_path / "other.ini").write_text(f"[filter:a]\npaste.filter_factory = {HERE}:tag_filter\ntag = %(mine)s\n")
        paste = "[DEFAULT]\nmine = yours\n[pipeline:heat-api]\npipeline = a inner\n"
        assert self.served(tmp_path, f"{paste}[filter:a]\nuse = config:other.ini#a\n") == "yours"

    def test_call_of_a_composite(self, tmp_path):
        paste = f"[composite:heat-api]\nuse = call:{HERE}:tags_composite\ninner = inner\n"
        assert self.served(tmp_path, paste) == "none"

    @pytest.mark.parametrize(
        ("egg", "how"),
        [
            (
                "keystonemiddleware#auth_token",
                "lean, waiting for memcached and Keystone in native threads: at most 16 requests at once for each",
            ),
            ("osprofiler#osprofiler", "lean, nothing to do: left out"),
            ("oslo.middleware#http_proxy_to_wsgi", "lean, nothing to do: left out"),
            ("oslo.middleware#request_id", "lean"),
            ("oslo.middleware#sizelimit", "stock"),
        ],
    )
    def test_known_filters_by_their_egg_names(self, tmp_path, egg, how):
        paste = f"[pipeline:heat-api]\npipeline = a inner\n[filter:a]\nuse = egg:{egg}\n"
        paste += f"[app:inner]\npaste.app_factory = {HERE}:tags_app\n"
        found = loaded(configuration(tmp_path, paste=paste)).parts.stations
        # the application is not one that is known
        how = "lean" if how.endswith("left out") else how
        assert [station.how for station in found if "inner" not in station.name] == [how]


class TestNames:
    @pytest.mark.parametrize("name", sorted(deploy.HEAT_NAMES))
    def test_upstream_names_lead_to_code_of_ours(self, name):
        assert deploy.resolve(name).__module__.startswith("heatperf.pipeline.")
        # the generic factories' keys may be written with a dot, as importutils takes them
        assert deploy.resolve(name.replace(":", ".")) is deploy.resolve(name)

    def test_upstream_is_not_planted(self, tmp_path):
        with running(tmp_path) as worker:
            assert worker.get("/v1/admin/stacks").status == 200
        assert importlib.util.find_spec("heat") is None, "the tests below need an environment without openstack-heat"
        assert not [name for name in sys.modules if name == "heat" or name.startswith("heat.")]

    def test_factories_work_only_while_a_file_is_loaded(self, tmp_path):
        with pytest.raises(RuntimeError, match="only while"):
            parts.current()
        pipeline = loaded(configuration(tmp_path))
        with pytest.raises(RuntimeError, match="only while"):
            deploy.resolve("heat.common.noauth:filter_factory")({})
        with pytest.raises(RuntimeError, match="only while"):
            deploy.resolve("heat.common.wsgi:app_factory")({}, **{"heat.app_factory": "heat.api.openstack.v1:API"})
        assert pipeline.wsgi

    def test_factories_are_torn_down_when_loading_fails(self, tmp_path):
        refusal(tmp_path, OPEN, PASTE.replace("oslo_middleware.cors:filter_factory", "no_such_module:x"))
        with pytest.raises(RuntimeError):
            parts.current()

    def test_start_log_says_how_each_station_runs(self, tmp_path, caplog):
        caplog.set_level(logging.INFO, "heatperf.pipeline")
        paste = edited(
            f"[filter:audit]\npaste.filter_factory = {HERE}:tag_filter\n",
            {"default": "request_id faultwrap audit versionnegotiation authtoken context apiv1app"},
        )
        pipeline = loaded(configuration(tmp_path, "[heatperf]\nfilter_concurrency = 7\n", paste))
        lines = [record.getMessage() for record in caplog.records if "station" in record.getMessage()]
        assert len(lines) == len(pipeline.parts.stations)
        how = {station.name: station.how for station in pipeline.parts.stations}
        assert (how["faultwrap"], how["request_id"], how["apiv1app"]) == ("lean", "lean", "own")
        assert "native threads" in how["authtoken"]
        assert "not known" in how["audit"] and "7 requests" in how["audit"]


class TestRefusals:
    def test_missing_file_is_told_as_upstream_does(self, tmp_path):
        conf = configuration(tmp_path, OPEN.replace("[oslo", "api_paste_config = other-paste.ini\n[oslo"))
        with pytest.raises(ConfigurationError) as caught:
            loaded(conf)
        assert str(caught.value).startswith("Unable to locate config file [other-paste.ini]")

    def test_no_such_application(self, tmp_path):
        text = refusal(tmp_path, OPEN, PASTE.replace("[composite:heat-api]", "[composite:heat-apx]"))
        assert text.startswith(f"Unable to load heat-api-noauth from configuration file {tmp_path}/api-paste.ini.")
        assert "heat-api" in text.partition("Got:")[2]

    def test_flavor_without_a_pipeline(self, tmp_path):
        text = refusal(tmp_path, flavored("keystone"), PASTE)
        assert "[paste_deploy] flavor" in text and "'keystone'" in text
        assert "choose among custombackend, default, noauth, standalone" in text

    def test_broken_section_of_the_flavor_is_not_passed_over(self, tmp_path):
        """The plain section of a Stein file may ask for less authentication than the one that is broken."""
        paste = STEIN.replace("[pipeline:heat-api-noauth]", "[pipeline:heat-api-other]").replace("osprofiler", "")
        paste += "\n[pipeline:heat-api-noauth]\npipeline = misspelt apiv1app\n"
        assert "misspelt" in refusal(tmp_path, OPEN, paste)

    @pytest.mark.parametrize("factory", ["no_such_module:filter_factory", "oslo_middleware.no_such:filter_factory"])
    def test_unknown_factory_is_named_with_its_file(self, tmp_path, factory):
        paste = PASTE.replace("oslo_middleware.cors:filter_factory", factory)
        text = refusal(tmp_path, OPEN, paste)
        assert f"{tmp_path}/api-paste.ini" in text
        assert factory.partition(":")[0].split(".")[-1] in text or factory.partition(":")[2] in text

    @pytest.mark.parametrize(
        "line",
        [
            "paste.filter_factory = heat.common.elsewhere:filter_factory",
            "paste.filter_factory = heat.common.wsgi:filter_factory\nheat.filter_factory = heat.contrib.x:Filter",
            "paste.filter_factory = heat.api.openstack:no_such_filter",
        ],
    )
    def test_parts_of_upstream_that_are_not_here(self, tmp_path, line):
        paste = edited(f"[filter:x]\n{line}\n", {"noauth": "x faultwrap noauth context versionnegotiation apiv1app"})
        text = refusal(tmp_path, OPEN, paste)
        assert "openstack-heat" in text and f"{tmp_path}/api-paste.ini" in text

    def test_upstream_factories_by_call(self, tmp_path):
        paste = edited(
            "[filter:x]\nuse = call:heat.common.noauth:filter_factory\n",
            {"noauth": "faultwrap x context versionnegotiation apiv1app"},
        )
        with running(tmp_path, OPEN, paste) as worker:
            assert worker.get("/v1/admin/stacks").status == 200

    def test_cloudformation_is_not_served(self, tmp_path):
        paste = PASTE.replace("heat.api.openstack.v1:API", "heat.api.cfn.v1:API")
        text = refusal(tmp_path, OPEN, paste)
        assert "heat.api.cfn.v1:API" in text and "not served" in text and f"{tmp_path}/api-paste.ini" in text

    def test_cloudformation_program_is_not_served(self, tmp_path):
        conf = configuration(tmp_path)
        with pytest.raises(ConfigurationError, match="heat-api-cfn is not served"):
            deploy.load_paste_app(loaded(conf).parts, "heat-api-cfn")

    @pytest.mark.parametrize("paste", ["[composite:heat-api\n", "no section\n", "[a]\nx = 1\n[a]\n", "\xff\xfe"])
    def test_files_that_are_no_ini(self, tmp_path, paste):
        conf = configuration(tmp_path)
        (tmp_path / "api-paste.ini").write_bytes(paste.encode("latin-1"))
        with pytest.raises(ConfigurationError) as caught:
            loaded(conf)
        assert f"{tmp_path}/api-paste.ini" in str(caught.value)

    def test_interpolation_of_what_is_not_there(self, tmp_path):
        paste = PASTE.replace("oslo_config_project = heat", "oslo_config_project = %(nowhere)s")
        assert f"{tmp_path}/api-paste.ini" in refusal(tmp_path, OPEN, paste)

    @pytest.mark.parametrize(
        "line",
        [
            f"paste.filter_factory = {HERE}:broken_filter",  # ValueError out of the factory
            f"paste.filter_factory = {HERE}:tag_filter\nunknown_key = 1",  # TypeError
            "paste.filter_factory = oslo_middleware.cors:no_such_factory",  # AttributeError
        ],
    )
    def test_factories_that_fail(self, tmp_path, line):
        paste = edited(f"[filter:x]\n{line}\n", {"noauth": "x faultwrap noauth context versionnegotiation apiv1app"})
        assert f"{tmp_path}/api-paste.ini" in refusal(tmp_path, OPEN, paste)


def test_healthcheck_as_application_stays_on_the_loop(tmp_path):
    pipeline = loaded(configuration(tmp_path))
    assert not isinstance(pipeline.wsgi, NativeApp)
    assert {station.name: station.how for station in pipeline.parts.stations}["healthcheck"] == "stock"
