"""Code of an operator's around a known caller: what it does to one request is seen, and stays with that request."""

import functools

import pytest
from identity_rig import keystone
from keystonemiddleware import auth_token
from pipeline_rig import OPEN, PASTE, Engine, configuration, edited, loaded, running
from test_pipeline_identity import token_conf
from test_pipeline_tokens import fill

from heatperf.pipeline import cors, noauth
from heatperf.pipeline.known import identity as name_of

HERE = __name__
PATH = "/v1/p1/stacks"


@pytest.fixture(scope="module")
def identity():
    with keystone() as server:
        fill(server)
        yield server


def tidy(_global_conf, **_local_conf):
    """A filter that writes into what authentication has left, once the answer is there."""

    def wrap(app):
        def after(environ, start_response):
            answer = app(environ, start_response)
            environ["keystone.token_info"]["token"]["user"]["id"] = "removed"
            context = environ["webob.adhoc_attrs"]["context"]
            context.roles.append("admin")
            context.auth_token_info["token"]["methods"].append("removed")
            return answer

        return after

    return wrap


def demoting(loader, _global_conf, inner):
    """A composite with a wrapper of its own: those who ask for it work without the role member."""
    app = loader.get_app(inner)

    def demoted(environ, start_response):
        if "HTTP_X_DEMOTED" in environ:
            environ["HTTP_X_ROLES"] = "nobody"
        return app(environ, start_response)

    return demoted


def telling(_global_conf, **_local_conf):
    """A filter that says what token a request has, in place of authtoken."""

    def wrap(app):
        def tell(environ, start_response):
            if "HTTP_X_TELL" in environ:
                environ["keystone.token_info"] = {"token": {"of": environ["HTTP_X_TELL"]}}
            return app(environ, start_response)

        return tell

    return wrap


@functools.wraps(auth_token.filter_factory)
def stricter(_global_conf, **_local_conf):
    """A factory in the clothes of the known one, that lets nobody in."""

    def wrap(_app):
        def refuse(_environ, start_response):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]

        return refuse

    return wrap


@functools.wraps(noauth.filter_factory)
def like_ours(global_conf, **local_conf):
    return noauth.filter_factory(global_conf, **local_conf)


def said(engine):
    _method, _arguments, context = engine.calls.pop()
    return context["roles"], context["auth_token_info"]


def test_filter_above_writes_into_its_own_request_only(tmp_path, identity):
    line = "faultwrap {} versionnegotiation authurl authtoken context apiv1app"
    engine = Engine()
    paste = edited(f"[filter:tidy]\npaste.filter_factory = {HERE}:tidy\n", {"default": line.format("tidy")})
    with running(tmp_path, token_conf(identity), paste, engine) as worker:
        for _ in range(3):
            assert worker.get(PATH, X_Auth_Token="good").status == 200
            roles, info = said(engine)
            assert roles == ["member", "reader"]
            assert (info["token"]["user"]["id"], info["token"]["methods"]) == ("u-alice", ["password"])


def test_composite_below_authentication_is_believed(tmp_path, identity):
    sections = (
        f"[composite:demoting]\npaste.composite_factory = {HERE}:demoting\ninner = inside\n"
        "[pipeline:inside]\npipeline = context apiv1app\n"
    )
    paste = edited(sections, {"default": "request_id faultwrap versionnegotiation authurl authtoken demoting"})
    engine = Engine()
    with running(tmp_path, token_conf(identity), paste, engine) as worker:
        for _ in range(2):
            assert worker.get(PATH, X_Auth_Token="good").status == 200
            assert said(engine)[0] == ["member", "reader"]
            assert worker.get(PATH, X_Auth_Token="good", X_Demoted="yes").status == 403
            assert not engine.calls


def test_token_of_a_filter_above_is_its_requests_own(tmp_path):
    paste = edited(
        f"[filter:telling]\npaste.filter_factory = {HERE}:telling\n",
        {"noauth": "request_id faultwrap telling noauth context versionnegotiation apiv1app"},
    )
    engine = Engine()
    with running(tmp_path, OPEN, paste, engine) as worker:
        for sent in ("one", "two", None, "one"):
            headers = {"X-Tell": sent} if sent else {}
            assert worker.request("GET", "/v1/admin/stacks", headers).status == 200
            assert said(engine)[1] == ({"token": {"of": sent}} if sent else None)


@pytest.mark.parametrize("factory", [stricter, like_ours])
def test_factories_in_the_clothes_of_known_ones_are_not_known(tmp_path, factory):
    """functools.wraps takes over module and name of what it wraps."""
    paste = edited(
        f"[filter:dressed]\npaste.filter_factory = {HERE}:{factory.__dict__['__wrapped__'] and clothes(factory)}\n",
        {"noauth": "request_id faultwrap dressed context versionnegotiation apiv1app"},
    )
    pipeline = loaded(configuration(tmp_path, OPEN, paste))
    [station] = [station for station in pipeline.parts.stations if station.name == "dressed"]
    assert "not known here" in station.how


def clothes(factory):
    return next(name for name, value in globals().items() if value is factory)


def test_wrapped_authentication_is_not_replaced(tmp_path):
    paste = edited(
        f"[filter:stricter]\npaste.filter_factory = {HERE}:stricter\n",
        {"default": "request_id faultwrap versionnegotiation stricter context apiv1app"},
    )
    with running(tmp_path, "", paste) as worker:
        assert worker.get(PATH, X_Auth_Token="good").status == 403


def test_names_of_factories():
    assert name_of(auth_token.filter_factory) == "keystonemiddleware.auth_token:filter_factory"
    assert name_of(cors.cors.CORS.factory) == "oslo_middleware.cors:CORS.factory"
    assert name_of(cors.filter_factory) == "heatperf.pipeline.cors:filter_factory"
    assert name_of(stricter) not in ("keystonemiddleware.auth_token:filter_factory",)
    assert PASTE.count("keystonemiddleware.auth_token:filter_factory") == 1
