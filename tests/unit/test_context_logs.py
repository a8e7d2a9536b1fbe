"""What the log says of a request is that request's own, and never a secret, wherever the line was written."""

import contextvars
import io
import json
import logging
import random
import re
import threading
import time
from collections import Counter

import pytest
from identity_rig import PASSWORD, SERVICE_PASSWORD, keystone
from oslo_config import cfg
from oslo_log import formatters, log
from pipeline_rig import OPEN, PASTE, Engine, edited, running, together

from heatperf import context
from heatperf.errors import heat

HERE = __name__
LOG = logging.getLogger("heatperf.test_context_logs")
REQUESTS = 60
TEXT = (
    "%(asctime)s %(levelname)s %(name)s [%(global_request_id)s %(request_id)s %(user_identity)s"
    " %(password)s %(aws_creds)s %(auth_token)s] %(message)s"
)


def chatty(_global_conf, **_local_conf):
    """A filter that talks about its request, before and after it has blocked for a while."""

    def wrap(app):
        def talk(environ, start_response):
            name = environ["HTTP_X_AUTH_USER"]
            LOG.info("filter of <%s> begins", name)
            time.sleep(random.random() / 100)
            LOG.info("filter of <%s> goes on", name)
            answer = app(environ, start_response)
            time.sleep(random.random() / 100)
            LOG.info("filter of <%s> ends", name)
            return answer

        return talk

    return wrap


class TalkingEngine(Engine):
    """An engine whose calls block in native threads, as oslo.messaging's do, and talk about their caller there."""

    def start(self, loop):
        super().start(loop)
        self.pool = loop.pool("rpc", 8, 200)

    def stop(self):
        self.pool.stop()

    def call(self, context, method, arguments, version, timeout):
        user = context.to_rpc()["user"]
        LOG.info("loop of <%s> calls", user)
        self.pool.run(self.block, user)
        self.loop.sleep(random.random() / 100)
        LOG.info("loop of <%s> goes on", user)
        if user.endswith("7"):
            raise heat.Invalid(reason="seven")
        if user.endswith("9"):
            raise RuntimeError(f"of <{user}>")
        return super().call(context, method, arguments, version, timeout)

    def block(self, user):
        LOG.info("thread of <%s> begins", user)
        time.sleep(random.random() / 100)
        LOG.info("thread of <%s> ends", user)


class Capture(logging.Handler):
    """A handler as logs.setup leaves them; formats at once, in the thread that logs."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.addFilter(context.ContextLogFilter())
        self.entries = []
        conf = cfg.ConfigOpts()
        log.register_options(conf)
        conf([])
        conf.set_override("logging_context_format_string", TEXT)
        self.text = formatters.ContextFormatter(config=conf)
        self.json = formatters.JSONFormatter()
        # as oslo.log sets them up
        self.quiet = [pair.replace("WARN", "WARNING").split("=") for pair in conf.default_log_levels]
        self.lines = io.StringIO()

    def emit(self, record):
        for name, level in self.quiet:
            if f"{record.name}.".startswith(f"{name}.") and record.levelno < logging.getLevelName(level):
                return
        known = record.context
        self.entries.append((record.getMessage(), known and known.user_name, known and known.request_id, record))
        self.lines.write(self.text.format(record) + "\n" + self.json.format(record) + "\n")


@pytest.fixture
def capture():
    handler = Capture()
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(before)
    root.removeHandler(handler)


def paste():
    return edited(
        f"[filter:chatty]\npaste.filter_factory = {HERE}:chatty\n",
        {"noauth": "cors request_id faultwrap noauth context chatty http_proxy_to_wsgi versionnegotiation apiv1app"},
    )


def test_no_line_carries_the_id_of_another_request(tmp_path, capture):
    with running(tmp_path, OPEN + "[heatperf]\nfilter_concurrency = 20\n", paste(), TalkingEngine()) as worker:

        def ask(number):
            user = f"user-{number}"
            answer = worker.get(f"/v1/admin/stacks?marker={user}", X_Auth_User=user)
            return user, answer.headers["x-openstack-request-id"]

        ids = dict(together(*(lambda number=number: ask(number) for number in range(REQUESTS))))
    assert len(set(ids.values())) == REQUESTS
    told = Counter()
    wrong = []
    for message, user, request_id, record in list(capture.entries):
        about = re.search(r"<(user-\d+)>|marker=(user-\d+)", message)
        if about is None:
            # nothing in the text says whose line it is, so at least it is nobody's or of one of ours
            assert request_id is None or request_id in ids.values()
            continue
        name = about[1] or about[2]
        told[message.split()[0]] += 1
        if (user, request_id) != (name, ids[name]):
            wrong.append((message, user, request_id, record.threadName))
        if record.name == "heatperf.access" and not message.endswith(ids[name]):
            wrong.append((message, ids[name]))
    assert not wrong, wrong[:5]
    # every kind of place has spoken, as often as it should
    assert (told["filter"], told["loop"], told["thread"]) == (3 * REQUESTS - REQUESTS // 5, 2 * REQUESTS, 2 * REQUESTS)
    for line in filter(lambda line: line.startswith("{"), capture.lines.getvalue().splitlines()):
        entry = json.loads(line)
        about = re.search(r"<(user-\d+)>", entry["message"])
        if about:
            assert entry["context"]["request_id"] == ids[about[1]]


def test_threads_of_the_pools_forget_whom_they_worked_for(tmp_path, capture):
    """A line written later by a thread that is idle again, or by the loop itself, is nobody's."""
    with running(tmp_path, transport=TalkingEngine()) as worker:
        assert worker.get("/v1/admin/stacks", X_Auth_User="user-1").status == 200
        seen = []
        pool = worker.pipeline.parts.engine.transport.pool
        worker.loop.run_on_loop(lambda: seen.append(context.get_current()))
        worker.loop.run_on_loop(pool.run, lambda: seen.append(context.get_current()))
    assert seen == [None, None]


def test_secrets_never_reach_the_log(tmp_path, capture):
    secrets = [PASSWORD, SERVICE_PASSWORD, "tok-3f9a", "ec2-creds-77aa", "s3cret-of-broker", "good-token-51"]
    with keystone() as identity:
        identity.tokens["good-token-51"] = identity.tokens["good"]
        text = (
            "[DEFAULT]\ndebug = true\ntransport_url = rabbit://heat:s3cret-of-broker@127.0.0.1:9/\n"
            f"[keystone_authtoken]\nwww_authenticate_uri = {identity.url}\nauth_url = {identity.url}\n"
            f"auth_type = password\nusername = heat\npassword = {SERVICE_PASSWORD}\nproject_name = services\n"
            "user_domain_id = default\nproject_domain_id = default\n"
        )

        def fail(_method, _arguments, _context):
            raise RuntimeError("the engine is broken")

        with running(tmp_path, text, PASTE, Engine(fail)) as worker:
            worker.get("/v1/p1/stacks", X_Auth_Token="good-token-51", X_Auth_EC2_Creds="ec2-creds-77aa")
            worker.get("/v1/p1/stacks", X_Auth_Token="tok-3f9a")
            worker.get("/v1/p1/stacks", X_Auth_Token="good-token-51", X_Auth_User="alice", X_Auth_Key=PASSWORD)
        (tmp_path / "standalone").mkdir()
        standalone = "[paste_deploy]\nflavor = standalone\n" + text
        with running(tmp_path / "standalone", standalone, PASTE, Engine(fail)) as worker:
            user = {"X-Auth-User": "alice", "X-User-Domain-Id": "default"}
            worker.request("GET", "/v1/p1/stacks", {**user, "X-Auth-Key": PASSWORD})
            worker.request("GET", "/v1/p1/stacks", {**user, "X-Auth-Key": "wrong-" + PASSWORD})
    lines = capture.lines.getvalue()
    # the lines that could have shown them are there
    assert '"GET /v1/p1/stacks HTTP/1.1" 500' in lines and "transport_url" in lines and "the engine is broken" in lines
    assert '"password": "***"' in lines and '"aws_creds": "***"' in lines and '"auth_token": "***"' in lines
    shown = [(secret, line) for secret in secrets for line in lines.splitlines() if secret in line]
    assert not shown


def test_context_outside_of_requests(capture):
    LOG.info("nobody's line")
    assert capture.entries[-1][1:3] == (None, None)


def test_contexts_of_threads_are_their_own():
    """The contextvar, not oslo.context's thread-local store, says whose line it is."""
    found = {}

    def work(name):
        def inside():
            context.RequestContext(user_name=name, is_admin=False)
            time.sleep(0.01)
            found[name] = context.get_current().user_name

        contextvars.Context().run(inside)

    threads = [threading.Thread(target=work, args=(f"u{number}",)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"u{number}": f"u{number}" for number in range(10)}
    assert context.get_current() is None


def test_listing_as_administrator_keeps_the_log_context(tmp_path, capture):
    engine = Engine(lambda *_: LOG.info("in the listing") or [])
    (tmp_path / "policy.yaml").write_text('"stacks:global_index": "@"\n')
    with running(tmp_path, f"{OPEN}policy_file = {tmp_path}/policy.yaml\n", transport=engine) as worker:
        answer = worker.get("/v1/admin/stacks?global_tenant=true")
        assert answer.status == 200
    line = next(entry for entry in capture.entries if entry[0] == "in the listing")
    assert line[2] == answer.headers["x-openstack-request-id"]
