"""What locust's users of the REST API share: who they are, and how an answer is judged.

Project and token come from the environment. OS_TOKEN and OS_PROJECT_ID are those of an ordinary user, OS_ADMIN_TOKEN
and OS_ADMIN_PROJECT_ID of an administrator, by default the same. Without a token the server must ask for none, as in
development mode.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import gevent
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import RescheduleTask

PROJECT = os.environ.get("OS_PROJECT_ID", "demo")
TOKEN = os.environ.get("OS_TOKEN")
ADMIN_PROJECT = os.environ.get("OS_ADMIN_PROJECT_ID", PROJECT)
ADMIN_TOKEN = os.environ.get("OS_ADMIN_TOKEN", TOKEN)

#: Seconds between looks at a stack that is being worked on, and how long to look at most.
POLL, PATIENCE = 1.0, 300.0
#: Needs no other OpenStack service, and its output tells whether it was really made.
TEMPLATE = {
    "heat_template_version": "2021-04-16",
    "description": "Made by a load test",
    "parameters": {"greeting": {"type": "string", "default": "hello"}},
    "resources": {
        "said": {"type": "OS::Heat::Value", "properties": {"type": "string", "value": {"get_param": "greeting"}}},
        "random": {"type": "OS::Heat::RandomString", "properties": {"length": 16}},
    },
    "outputs": {"said": {"value": {"get_attr": ["said", "value"]}}},
}

#: Looks at the body of an answer; True means that it is what was asked for.
Check = Callable[[Any], bool]


class Unexpected(RescheduleTask):
    """The answer, or what became of a stack, is not what it should be. It is in locust's statistics already.

    locust goes on with the user's next task.
    """


class HeatUser(FastHttpUser):
    """A client of one project."""

    abstract = True
    project = PROJECT
    token = TOKEN
    network_timeout = 120.0

    def ask(
        self,
        method: str,
        path: str,
        name: str,
        status: int | tuple[int, ...] = 200,
        body: Any = None,
        check: Check | None = None,
    ) -> Any:
        """Send a request and judge its answer; a wrong one counts as a failure, whatever its status.

        :param path: below the project; with two slashes in front, below the root
        :param name: in locust's table
        :param status: of the right answer, or several
        :returns: the body, parsed; None where there is none
        :raises Unexpected: it was wrong
        """
        where = path[1:] if path.startswith("//") else f"/v1/{self.project}{path}"
        headers = {"X-Auth-Token": self.token} if self.token else {}
        with self.client.request(
            method, where, name=name, json=body, headers=headers, allow_redirects=False, catch_response=True
        ) as answer:
            problem, parsed = _judge(answer.status_code, answer.content or b"", status, check)
            if problem is None:
                answer.success()
                return parsed
            lost = getattr(answer, "error", None)  # where there was no answer at all
            answer.failure(f"{problem}: {lost or answer.content!r:.300}")
        raise Unexpected(problem)

    def wait_for(self, path: str, action: str) -> dict[str, Any]:
        """Look at a stack until an action on it has ended; how long that took is a row of its own in locust's table.

        :returns: the stack
        :raises Unexpected: it failed, or took too long
        """
        began = time.perf_counter()
        while True:
            stack = self.ask("GET", path, "show stack", check=lambda body: "stack_status" in body["stack"])["stack"]
            spent = time.perf_counter() - began
            state = stack["stack_status"]
            if state == f"{action}_COMPLETE" or not state.endswith("_IN_PROGRESS") or spent > PATIENCE:
                break
            gevent.sleep(POLL)
        problem = None if state == f"{action}_COMPLETE" else Unexpected(f"{state}: {stack['stack_status_reason']}")
        self.record("STACK", f"{action.lower()} until complete", spent, problem)
        if problem:
            raise problem
        return dict(stack)

    def record(self, kind: str, name: str, seconds: float, problem: Exception | None = None) -> None:
        """A row of locust's table that is no request."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=1000 * seconds,
            response_length=0,
            exception=problem,
            context={},
        )


def _judge(status: int, content: bytes, wanted: int | tuple[int, ...], check: Check | None) -> tuple[str | None, Any]:
    """What is wrong, or None; and the body."""
    if status not in (wanted if isinstance(wanted, tuple) else (wanted,)):
        return f"status {status}, not {wanted}", None
    if not content:
        return ("no body" if check else None), None
    try:
        parsed = json.loads(content)
        return (None if check is None or check(parsed) else "not what was asked for"), parsed
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"not what was asked for ({error!r})", None
