"""Load with locust: ``locust -f bench/ --host http://127.0.0.1:8004``, and ``--headless -u 20 -r 5 -t 1m`` with no web.

Users behave like tools that read stacks. They take a token and a project from OS_TOKEN and OS_PROJECT_ID; without one
the server must run a pipeline that needs none (noauth), and the project is "admin". A wrong answer counts as a failure
even if its status is right. Install with ``pip install 'heatperf[bench]'``.
"""

import os
from typing import Any

from locust import HttpUser, between, task

PROJECT = os.environ.get("OS_PROJECT_ID", "admin")
TOKEN = os.environ.get("OS_TOKEN")


class Reader(HttpUser):
    """Lists stacks, looks at one of them and its resources, now and then at the versions."""

    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        if TOKEN:
            self.client.headers["X-Auth-Token"] = TOKEN
        self.known: list[dict[str, Any]] = []

    @task(10)
    def list_stacks(self) -> None:
        with self.client.get(f"/v1/{PROJECT}/stacks", name="stacks", catch_response=True) as answer:
            stacks = answer.json().get("stacks") if answer.ok else None
            if not isinstance(stacks, list):
                answer.failure(f"{answer.status_code}, no list of stacks")
                return
            self.known = stacks

    @task(4)
    def show_stack(self) -> None:
        for stack in self.known[:1]:
            path = f"/v1/{PROJECT}/stacks/{stack['stack_name']}/{stack['id']}"
            with self.client.get(path, name="stack", catch_response=True) as answer:
                if not answer.ok or answer.json().get("stack", {}).get("id") != stack["id"]:
                    answer.failure(f"{answer.status_code}, not the stack asked for")

    @task(2)
    def list_resources(self) -> None:
        for stack in self.known[:1]:
            path = f"/v1/{PROJECT}/stacks/{stack['stack_name']}/{stack['id']}/resources"
            with self.client.get(path, name="resources", catch_response=True) as answer:
                if not answer.ok or "resources" not in answer.json():
                    answer.failure(f"{answer.status_code}, no list of resources")

    @task(1)
    def versions(self) -> None:
        with self.client.get("/", name="versions", catch_response=True) as answer:
            if answer.status_code == 300 and answer.json()["versions"][0]["id"] == "v1.0":
                answer.success()
            else:
                answer.failure(f"{answer.status_code}, no versions")
