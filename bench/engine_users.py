"""Load on heat-engine without an API in front: locust's EngineUser calls and casts through heatperf's own RPC client.

Runs only where HEATPERF_BENCH_TRANSPORT_URL names the broker (as transport_url in heat.conf); OS_AUTH_URL and OS_TOKEN
name Keystone and a token, from which the engine's caller is made. ``locust -f bench/ EngineUser`` leaves out the rest.

locust has replaced Python's threads by greenlets before this file is read, so stock oslo.messaging waits in greenlets
by itself, and the loop that OsloTransport asks for native threads is one that calls at once.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import gevent
import requests
from _rest import PATIENCE, POLL, TEMPLATE, Unexpected
from locust import User, between, task

TRANSPORT_URL = os.environ.get("HEATPERF_BENCH_TRANSPORT_URL")


class Greenlets:
    """Stands for a worker's loop and its pools of threads."""

    def pool(self, _name: str, _threads: int, _queue: int) -> "Greenlets":
        return self

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def run_within(self, seconds: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """
        :raises DeadlineExceeded: after ``seconds``
        """
        from heatperf.errors import DeadlineExceeded

        with gevent.Timeout(seconds, DeadlineExceeded("A call")):
            return function(*args, **kwargs)


class Connection:
    """Client and caller, shared by the users of this process; made when the first of them starts."""

    client: Any = None
    context: Any = None

    @classmethod
    def open(cls) -> None:
        if cls.client is not None:
            return
        from oslo_config import cfg

        from heatperf.config import load
        from heatperf.rpc.client import EngineClient
        from heatperf.rpc.oslo import OsloTransport

        # development: reads no heat.conf of this machine
        load.load(cfg.CONF, [], development=True, adjust=lambda conf: conf.set_override("transport_url", TRANSPORT_URL))
        transport = OsloTransport(cfg.CONF)
        transport.start(Greenlets())
        cls.context = caller(os.environ["OS_AUTH_URL"], os.environ["OS_TOKEN"])
        cls.client = EngineClient(transport)


def caller(auth_url: str, token: str) -> Any:
    """The context that the API would make of a token.

    :raises requests.HTTPError: Keystone does not know the token
    """
    from heatperf.context import RequestContext

    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    answer = requests.get(f"{auth_url.rstrip('/')}/auth/tokens", headers=headers, timeout=30)
    answer.raise_for_status()
    found = answer.json()["token"]
    return RequestContext(
        auth_token=token,
        auth_url=auth_url,
        user_id=found["user"]["id"],
        user_name=found["user"]["name"],
        user_domain_id=found["user"]["domain"]["id"],
        project_id=found["project"]["id"],
        project_name=found["project"]["name"],
        project_domain_id=found["project"]["domain"]["id"],
        roles=[role["name"] for role in found["roles"]],
        auth_token_info={"token": found},
    )


class EngineUser(User):
    """Mostly short calls, as an API makes them; now and then a stack's life, which ends with a cast."""

    abstract = TRANSPORT_URL is None
    weight = 5
    wait_time = between(0.1, 0.5)
    name = ""

    def on_start(self) -> None:
        Connection.open()

    @task(10)
    def revision(self) -> None:
        self.call("get_revision", check=lambda result: isinstance(result, str))

    @task(10)
    def count(self) -> None:
        self.call("count_stacks", check=lambda result: isinstance(result, int))

    @task(5)
    def stacks(self) -> None:
        self.call("list_stacks", limit=20, check=lambda result: all("stack_identity" in stack for stack in result))

    @task(1)
    def create_and_cast_away(self) -> None:
        """The REST API waits for the engine's word even when it deletes; a cast does not."""
        self.name = name = f"locust-rpc-{uuid.uuid4().hex[:12]}"
        arguments = {"template": TEMPLATE, "params": {}, "files": {}, "args": {"timeout_mins": 10}}
        identity = self.call(
            "create_stack", stack_name=name, **arguments, check=lambda result: bool(result["stack_id"])
        )
        self.until(identity, "CREATE_COMPLETE")
        self.send("CAST", "delete_stack", Connection.client.cast, None, stack_identity=identity)
        self.until(identity, "DELETE_COMPLETE")
        self.name = ""

    def on_stop(self) -> None:
        # The test may end between any two calls; the stack must not stay.
        if self.name:
            from heatperf.errors import heat

            with contextlib.suppress(heat.EntityNotFound):
                identity = Connection.client.call(Connection.context, "identify_stack", stack_name=self.name)
                Connection.client.cast(Connection.context, "delete_stack", stack_identity=identity)

    def until(self, identity: dict[str, Any], wanted: str) -> None:
        """
        :raises Unexpected: the stack does not get there
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            (stack,) = self.call("show_stack", stack_identity=identity, check=lambda result: len(result) == 1)
            state = f"{stack['stack_action']}_{stack['stack_status']}"
            if state == wanted:
                return
            if state.endswith("_FAILED") or time.monotonic() > deadline:
                raise Unexpected(f"{state}: {stack['stack_status_reason']}")
            gevent.sleep(POLL)

    def call(self, method: str, *, check: Callable[[Any], bool], **arguments: Any) -> Any:
        """Call the engine; a row in locust's table."""
        return self.send("CALL", method, Connection.client.call, check, **arguments)

    def send(
        self, kind: str, method: str, how: Callable[..., Any], check: Callable[[Any], bool] | None, **arguments: Any
    ) -> Any:
        """
        :raises Exception: what the engine raised, or Unexpected; both are counted as failures
        """
        began = time.perf_counter()
        problem, result = None, None
        try:
            result = how(Connection.context, method, **arguments)
            if check is not None and not check(result):
                problem = Unexpected(f"{method} returned {result!r:.300}")
        except Exception as error:
            problem = error
        self.environment.events.request.fire(
            request_type=kind,
            name=method,
            response_time=1000 * (time.perf_counter() - began),
            response_length=0,
            exception=problem,
            context={},
        )
        if problem:
            raise problem
        return result
