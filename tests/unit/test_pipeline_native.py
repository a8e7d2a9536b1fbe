"""A filter this server does not know: it may block, raise, read the body and log, and nothing else notices."""

import logging
import threading
import time

import pytest
from pipeline_rig import OPEN, Engine, edited, running, together, wait_for

from heatperf import context
from heatperf.pipeline.native import NativeApp

HERE = __name__
LOG = logging.getLogger("operators.filter")


class Seen:
    """What the filters below saw; a fresh one per test."""

    gate: threading.Event
    inside: int
    most: int
    threads: list[int]
    bodies: list[bytes]
    ids: list[object]


@pytest.fixture(autouse=True)
def seen():
    Seen.gate = threading.Event()
    Seen.inside = Seen.most = 0
    Seen.threads, Seen.bodies, Seen.ids = [], [], []
    Seen.lock = threading.Lock()
    yield
    Seen.gate.set()


def current_id():
    now = context.get_current()
    return now and now.request_id


def watching(_global_conf, **_local_conf):
    """Notes its thread, the body and the context of the log before and after what it calls."""

    def wrap(app):
        def watch(environ, start_response):
            Seen.threads.append(threading.get_ident())
            Seen.ids.append(current_id())
            if int(environ.get("CONTENT_LENGTH") or 0):
                stream = environ["wsgi.input"]
                Seen.bodies.append(stream.read(int(environ["CONTENT_LENGTH"])))
                stream.seek(0)
            answer = app(environ, start_response)
            Seen.ids.append(current_id())
            return answer

        return watch

    return wrap


def blocking(_global_conf, **_local_conf):
    """Holds requests for /v1/held until the gate opens, as a filter with a slow back end would: by blocking."""

    def wrap(app):
        def block(environ, start_response):
            if environ.get("HTTP_X_HOLD"):
                with Seen.lock:
                    Seen.inside += 1
                    Seen.most = max(Seen.most, Seen.inside)
                Seen.gate.wait(10)
                with Seen.lock:
                    Seen.inside -= 1
            return app(environ, start_response)

        return block

    return wrap


def catching(_global_conf, **_local_conf):
    """Notes the exceptions that pass, and lets them."""

    def wrap(app):
        def catch(environ, start_response):
            try:
                return app(environ, start_response)
            except Exception as error:
                Seen.ids.append(type(error).__name__)
                raise

        return catch

    return wrap


def lazy(_global_conf, **_local_conf):
    """Answers by a generator, with write(), and expects close()."""

    class Chunks:
        def __init__(self, app, environ, start_response):
            self.call = (app, environ, start_response)

        def __iter__(self):
            app, environ, start_response = self.call
            Seen.threads.append(threading.get_ident())
            parts = list(app(environ, lambda *_: lambda _data: None))
            write = start_response("201 Created", [("X-Lazy", "yes")])
            write(b"written ")
            yield from parts
            yield b" end"

        def close(self):
            Seen.ids.append("closed")

    def wrap(app):
        return lambda environ, start_response: Chunks(app, environ, start_response)

    return wrap


def with_filter(*names, place="request_id faultwrap {} noauth context versionnegotiation apiv1app"):
    sections = "".join(f"[filter:{name}]\npaste.filter_factory = {HERE}:{name}\n" for name in names)
    return edited(sections, {"noauth": place.format(" ".join(names))})


def options(**values):
    return OPEN + "[heatperf]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())


def test_it_runs_in_a_thread_and_what_it_calls_on_the_loop(tmp_path):
    threads = []
    engine = Engine(lambda *_: threads.append(threading.get_ident()) or [])
    with running(tmp_path, paste=with_filter("watching"), transport=engine) as worker:
        assert worker.get("/v1/admin/stacks").json == {"stacks": []}
        assert threads == [worker.thread_id]
        assert worker.thread_id not in Seen.threads and len(Seen.threads) == 1


def test_body_is_readable_in_it_and_below(tmp_path):
    engine = Engine(lambda *_: {})
    body = {"stack_name": "s", "template": {"heat_template_version": "2018-08-31"}}
    with running(tmp_path, paste=with_filter("watching"), transport=engine) as worker:
        assert worker.request("POST", "/v1/admin/validate", body=body).status == 200
    assert Seen.bodies[0].startswith(b'{"stack_name"')
    assert engine.calls[0][1]["template"] == body["template"]


def test_it_may_block_without_delaying_others(tmp_path):
    with running(tmp_path, paste=with_filter("blocking")) as worker:
        held = threading.Thread(target=worker.get, args=("/v1/admin/stacks",), kwargs={"X_Hold": "1"})
        held.start()
        wait_for(lambda: Seen.inside == 1)
        began = time.monotonic()
        for _ in range(10):
            assert worker.get("/v1/admin/stacks").status == 200
        assert time.monotonic() - began < 5  # each would take 10 s behind the one that is held
        assert Seen.inside == 1
        Seen.gate.set()
        held.join(10)


def test_numbers_inside_and_waiting_are_bounded(tmp_path):
    text = options(filter_concurrency=2, filter_queue=3)
    # above faultwrap: nobody but the HTTP layer answers
    paste = with_filter("blocking", place="{} request_id faultwrap noauth context versionnegotiation apiv1app")
    with running(tmp_path, text, paste) as worker:
        answers = []

        def held():
            answers.append(worker.get("/v1/admin/stacks", X_Hold="1"))

        threads = [threading.Thread(target=held) for _ in range(5)]
        for thread in threads:
            thread.start()
        pool = next(part.pool for part in worker.pipeline.parts.startables if isinstance(part, NativeApp))
        wait_for(lambda: pool.outstanding == 5)
        refused = worker.get("/v1/admin/stacks", X_Hold="1")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert b"filter" in refused.body
        Seen.gate.set()
        for thread in threads:
            thread.join(10)
        assert [answer.status for answer in answers] == [200] * 5
        assert Seen.most == 2
        assert worker.get("/v1/admin/stacks").status == 200


def test_refusal_below_faultwrap_is_a_fault_of_heat(tmp_path):
    with running(tmp_path, options(filter_concurrency=1, filter_queue=0), with_filter("blocking")) as worker:
        held = threading.Thread(target=worker.get, args=("/v1/admin/stacks",), kwargs={"X_Hold": "1"})
        held.start()
        wait_for(lambda: Seen.inside == 1)
        refused = worker.get("/v1/admin/stacks")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert (refused.json["error"]["type"], refused.json["code"]) == ("Overloaded", 503)
        Seen.gate.set()
        held.join(10)


def test_exceptions_from_below_pass_through_it(tmp_path):
    def fail(*_):
        raise ValueError("from below")

    with running(tmp_path, paste=with_filter("catching"), transport=Engine(fail)) as worker:
        answer = worker.get("/v1/admin/stacks")
    assert Seen.ids == ["ValueError"]
    assert (answer.status, answer.json["error"]["type"]) == (400, "ValueError")


def test_generators_write_and_close(tmp_path):
    with running(tmp_path, paste=with_filter("lazy")) as worker:
        answer = worker.get("/v1/admin/stacks")
        assert (answer.status, answer.headers["x-lazy"]) == (201, "yes")
        assert answer.body == b'written {"stacks":[]} end'
        assert worker.thread_id not in Seen.threads
    assert Seen.ids == ["closed"]


def test_log_context_reaches_it(tmp_path):
    """Below the context station, its log lines carry the request's id, before and after what it calls."""
    place = "request_id faultwrap noauth context {} versionnegotiation apiv1app"
    with running(tmp_path, paste=with_filter("watching", place=place)) as worker:
        answers = together(*(lambda: worker.get("/v1/admin/stacks") for _ in range(8)))
        ids = {answer.headers["x-openstack-request-id"] for answer in answers}
    assert len(Seen.ids) == 16
    assert set(Seen.ids) == ids and len(ids) == 8


def test_log_context_comes_back_up(tmp_path):
    """Above the context station the id is known on the way back only, as it is without such a filter."""
    with running(tmp_path, paste=with_filter("watching")) as worker:
        answer = worker.get("/v1/admin/stacks")
    assert Seen.ids == [None, answer.headers["x-openstack-request-id"]]


def test_one_request_never_sees_the_context_of_another(tmp_path):
    """Threads of the pool and greenlets of the loop are used again: what one request sets must be gone for the next."""
    with running(tmp_path, options(filter_concurrency=1), with_filter("watching")) as worker:
        for _ in range(3):
            assert worker.get("/v1/admin/stacks").status == 200
    assert Seen.ids[0::2] == [None, None, None]


def test_two_of_them_do_not_starve_each_other(tmp_path):
    """As many requests as there are threads, all inside the outer filter, all wanting to enter the inner one."""
    text = options(filter_concurrency=2)
    sections = f"[filter:watching]\npaste.filter_factory = {HERE}:watching\n"
    paste = edited(
        sections, {"noauth": "request_id faultwrap blocking watching noauth context versionnegotiation apiv1app"}
    )
    paste += f"[filter:blocking]\npaste.filter_factory = {HERE}:blocking\n"
    with running(tmp_path, text, paste) as worker:
        answers = []

        def held():
            try:
                answers.append(worker.request("GET", "/v1/admin/stacks", {"X-Hold": "1"}, timeout=3).status)
            except TimeoutError:
                answers.append("hangs")

        threads = [threading.Thread(target=held) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: Seen.inside == 2)
        Seen.gate.set()
        for thread in threads:
            thread.join(10)
        assert answers == [200, 200]


def test_application_that_never_answers_properly(tmp_path):
    paste = f"[app:heat-api]\npaste.app_factory = {HERE}:speechless\n"
    with running(tmp_path, paste=paste) as worker:
        answer = worker.get("/")
        assert answer.status == 500
        assert b"unpack" not in answer.body


def speechless(_global_conf, **_local_conf):
    """An application that forgets start_response."""
    return lambda _environ, _start_response: [b"x"]
