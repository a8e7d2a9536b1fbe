"""Load with locust: ``locust -f bench/``, with a web page on http://localhost:8089, or without:

    locust -f bench/ --headless -u 50 -r 10 -t 30s --host http://127.0.0.1:8004

Names of classes after the options choose among users, ``locust -f bench/ Reader`` for one. A wrong answer counts as a
failure even if its status is right. For a cloud, name a token and its project (see _rest.py):

    export OS_TOKEN=$(openstack token issue -f value -c id)
    export OS_PROJECT_ID=$(openstack token issue -f value -c project_id)

Install with ``pip install 'heatperf[bench]'``.

Weights. Of 20 users 14 read, 5 deploy and 1 operates. Nobody publishes how real clouds' requests divide, so this is
derived from what their clients do: dashboards and exporters list and show every few seconds all day; a deployment
writes three times in its life (create, update, delete) and polls between; operators look around once in a while. With
the waits below more than nine of ten requests are reads, most of them lists. To measure another mix, choose users and
their numbers on the web page (``--class-picker``).
"""

import contextlib
import random
import uuid
from typing import Any

from _rest import ADMIN_PROJECT, ADMIN_TOKEN, TEMPLATE, HeatUser, Unexpected
from gevent.lock import Semaphore
from locust import between, events, task


class Sample:
    """The stack that all Readers of this process look at; the first of them makes it."""

    name = f"locust-sample-{uuid.uuid4().hex[:8]}"
    greeting = "read me"
    stack: dict[str, Any] | None = None
    maker: HeatUser | None = None
    _lock = Semaphore()

    @classmethod
    def get(cls, user: HeatUser) -> dict[str, Any]:
        """:raises Unexpected: it could not be made"""
        with cls._lock:
            if cls.stack is None:
                path = create(user, cls.name, cls.greeting)
                cls.stack, cls.maker = {**user.wait_for(path, "CREATE"), "path": path}, user
        return cls.stack

    @classmethod
    def remove(cls) -> None:
        """Delete it; the next test makes a new one."""
        stack, user = cls.stack, cls.maker
        cls.stack = cls.maker = None
        if stack and user:
            user.ask("DELETE", stack["path"], "delete stack", 204)


@events.test_stop.add_listener
def _tidy_up(**_kwargs: Any) -> None:
    Sample.remove()


def create(user: HeatUser, name: str, greeting: str) -> str:
    """Have a stack made; the path of the stack, below its project."""
    body = {"stack_name": name, "template": TEMPLATE, "parameters": {"greeting": greeting}, "timeout_mins": 10}
    answer = user.ask("POST", "/stacks", "create stack", 201, body, lambda found: bool(found["stack"]["id"]))
    return f"/stacks/{name}/{answer['stack']['id']}"


def said(stack: dict[str, Any]) -> Any:
    """The output of our template."""
    return {output["output_key"]: output.get("output_value") for output in stack["outputs"]}["said"]


class Reader(HeatUser):
    """A dashboard or an exporter: lists stacks, looks at one of them, its resources and events."""

    weight = 14
    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        self.stack = Sample.get(self)

    @task(10)
    def list_stacks(self) -> None:
        wanted = self.stack["id"]
        self.ask("GET", "/stacks", "list stacks", check=_are_stacks)
        self.ask(
            "GET",
            f"/stacks?name={Sample.name}",
            "list stacks by name",
            check=lambda body: [stack["id"] for stack in body["stacks"]] == [wanted],
        )

    @task(6)
    def show_stack(self) -> None:
        wanted = self.stack["id"]
        self.ask(
            "GET",
            self.stack["path"],
            "show stack",
            check=lambda body: body["stack"]["id"] == wanted and said(body["stack"]) == Sample.greeting,
        )

    @task(3)
    def list_resources(self) -> None:
        self.ask(
            "GET",
            f"{self.stack['path']}/resources",
            "list resources",
            check=lambda body: {each["resource_name"] for each in body["resources"]} == {"said", "random"},
        )

    @task(2)
    def list_events(self) -> None:
        self.ask(
            "GET",
            f"{self.stack['path']}/events",
            "list events",
            check=lambda body: any(event["resource_status"] == "CREATE_COMPLETE" for event in body["events"]),
        )

    @task(2)
    def versions(self) -> None:
        self.ask("GET", "//", "versions", 300, check=lambda body: body["versions"][0]["id"] == "v1.0")

    @task(1)
    def look_for_what_is_not_there(self) -> None:
        self.ask(
            "GET",
            f"/stacks/no-such-stack/{uuid.uuid4()}",
            "show stack, 404",
            404,
            check=lambda body: body["error"]["type"] == "EntityNotFound",
        )


def _are_stacks(body: dict[str, Any]) -> bool:
    return all(stack["id"] and stack["stack_name"] and stack["stack_status"] for stack in body["stacks"])


class Deployer(HeatUser):
    """A pipeline: creates a stack, polls until it is complete, updates and deletes it, and checks its output."""

    weight = 5
    wait_time = between(1, 5)
    name = ""

    @task
    def life_of_a_stack(self) -> None:
        self.name = f"locust-{uuid.uuid4().hex[:12]}"
        greeting = f"hello {random.randrange(10**6)}"
        path = create(self, self.name, greeting)
        self.expect_output(self.wait_for(path, "CREATE"), greeting)
        self.wait()
        body = {"template": TEMPLATE, "parameters": {"greeting": greeting[::-1]}, "timeout_mins": 10}
        self.ask("PUT", path, "update stack", 202, body)
        self.expect_output(self.wait_for(path, "UPDATE"), greeting[::-1])
        self.wait()
        self.ask("DELETE", path, "delete stack", 204)
        self.wait_for(path, "DELETE")
        self.name = ""

    def expect_output(self, stack: dict[str, Any], greeting: str) -> None:
        """:raises Unexpected: the stack does not say what its parameter was"""
        if said(stack) != greeting:
            problem = Unexpected(f"{said(stack)!r}, not {greeting!r}")
            self.record("STACK", "output", 0, problem)
            raise problem

    def on_stop(self) -> None:
        # The test may end between any two requests; the stack must not stay. It may be on its way out already.
        if self.name:
            with contextlib.suppress(Unexpected):  # counted already
                found = self.ask("GET", f"/stacks?name={self.name}", "list stacks by name", check=_are_stacks)
                for stack in found["stacks"]:
                    self.ask("DELETE", f"/stacks/{self.name}/{stack['id']}", "delete stack", (204, 404))


class Operator(HeatUser):
    """Looks at the engines, at the types of resources, and at the stacks of all projects.

    The default policy lets nobody do the last: 403 is then the right answer, and has a row of its own.
    """

    weight = 1
    wait_time = between(1, 3)
    project = ADMIN_PROJECT
    token = ADMIN_TOKEN
    may_list_all: bool | None = None

    @task(3)
    def list_everywhere(self) -> None:
        if self.may_list_all is None:
            where = f"/v1/{self.project}/stacks?global_tenant=true&limit=1"
            headers = {"X-Auth-Token": self.token} if self.token else {}
            with self.client.get(where, name="may I?", headers=headers, catch_response=True) as answer:
                answer.success()
            self.may_list_all = answer.status_code != 403
        if self.may_list_all:
            self.ask(
                "GET",
                "/stacks?global_tenant=true&limit=100",
                "list stacks of all projects",
                check=lambda body: all(stack["project"] for stack in body["stacks"]),
            )
        else:
            self.ask(
                "GET",
                "/stacks?global_tenant=true&limit=100",
                "list stacks of all projects, 403",
                403,
                check=lambda body: body["error"]["type"] == "Forbidden",
            )

    @task(2)
    def resource_types(self) -> None:
        self.ask(
            "GET",
            "/resource_types",
            "list resource types",
            check=lambda body: {"OS::Heat::Value", "OS::Heat::RandomString"} <= {*body["resource_types"]},
        )

    @task(1)
    def build_info(self) -> None:
        self.ask("GET", "/build_info", "build info", check=lambda body: "revision" in body["engine"])
