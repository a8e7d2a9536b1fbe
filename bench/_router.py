"""How long the router takes to find the action of a request. A program; prints records as JSON.

In: every route of the table, with ids as long as real ones. The time is that of ``Router.find`` alone, median of many
short loops per route: with it the HTTP layer, the pipeline and the action are left out.
"""

import json
import statistics
import sys
import time
import uuid
from typing import Any

from oslo_config import cfg

from heatperf.api.controller import Services
from heatperf.api.router import Router
from heatperf.api.routes import ROUTES
from heatperf.config import load
from heatperf.policy.enforcer import Policy
from heatperf.rpc.absent import AbsentTransport
from heatperf.rpc.client import EngineClient

LOOPS, REPEATS = 50, 15


def example(path: str) -> str:
    """A path that fits the route's, with new ids: no two requests of a measurement are the same."""
    return "/".join(str(uuid.uuid4()) if part.startswith("{") else part for part in path.split("/"))


def environ_of(method: str, path: str) -> dict[str, Any]:
    """As the stations before the router leave it, without the version segment."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "/v1",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "heat.example",
        "SERVER_PORT": "8004",
        "HTTP_HOST": "heat.example:8004",
        "wsgi.url_scheme": "http",
        **({"CONTENT_TYPE": "application/json"} if method in ("POST", "PUT", "PATCH") else {}),
    }


def main() -> None:
    """Measure and print."""
    load.load(cfg.CONF, [], development=True)
    router = Router(Services(cfg.CONF, EngineClient(AbsentTransport("none")), Policy(cfg.CONF)))
    records = []
    for group in ROUTES:
        for route in group.routes:
            method, path = route.methods[0], group.prefix + route.path
            if router.find(environ_of(method, example(path))) is None:
                sys.exit(f"no route for {method} {path}")
            times = []
            for _ in range(REPEATS):
                asked = [environ_of(method, example(path)) for _ in range(LOOPS)]
                began = time.perf_counter()
                for environ in asked:
                    router.find(environ)
                times.append((time.perf_counter() - began) / LOOPS)
            records.append({"route": f"{method} {path}", "us": round(1e6 * statistics.median(times), 3)})
    json.dump(records, sys.stdout)


if __name__ == "__main__":
    main()
