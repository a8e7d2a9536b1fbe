"""The sections of benchmarks.md about RPC. Pure; in: Results, out: Markdown. See _report.py."""

from collections.abc import Callable

from _bars import CLIENT, OURS
from _results import Record, Results
from _tables import contest, described, middle, spread, table

CLIENTS = {
    "lean-gevent": "heatperf, lean, gevent",
    "lean-uvloop": "heatperf, lean, uvloop",
    "lean-meinheld": "heatperf, lean, meinheld",
    "stock-threads": "oslo.messaging, threads",
    "stock-gevent": "oslo.messaging, patched by gevent",
    "heat": "Heat's client with its serializer, threads",
    "kombu": "kombu alone",
    "raw": "frames made beforehand (the ceiling)",
}
_SERVERS = {"fast": "fast responder", "stock": "server of stock oslo.messaging"}
_PAYLOADS = {"small": "small", "big": "55 kB"}


def conditions(plan: Record) -> list[str]:
    """How much was measured."""
    if "client_rounds" not in plan:
        return []
    text = (
        f"* RPC: {plan['client_rounds']} rounds of {plan['client_seconds']} s per client, {plan['rpc_rounds']} of"
        f" {plan['rpc_seconds']} s per workload and server, {plan['heavy_rounds']} of those that take long,"
        f" {plan['engine_rounds']} with an engine that has {plan['engine_rows']} stacks"
    )
    return [text + (f"; responder with a delay of {plan['engine_delay']:g} ms" if plan["engine_delay"] else "")]


def rpc_client(results: Results) -> str:
    """One row per task and client."""
    rows = []
    tasks = dict.fromkeys(
        tuple(record[name] for name in ("server", "what", "payload", "concurrency"))
        for record in results.records("rpc-client")
    )
    for task in tasks:
        where = dict(zip(("server", "what", "payload", "concurrency"), task, strict=True))
        first = f"{where['what']}, {_PAYLOADS[where['payload']]}, {where['concurrency']} at once"
        first += f", {_SERVERS[where['server']]}"
        ours = {**where, "client": CLIENT}
        for key, name in CLIENTS.items():
            theirs = {**where, "client": key}
            found = {field: results.spread("rpc-client", field, **theirs) for field in _BESIDE}
            if not found["cpu_us"]:
                continue
            ratio = results.ratio("rpc-client", "cpu_us", theirs, ours) if key != CLIENT else None
            cells = [middle(found[field]) for field in _BESIDE]
            rows.append((first, name, cells[0], spread(ratio) if ratio else "1", *cells[1:]))
            first = ""
    head = ("task", "client", "CPU µs", "CPU, times lean on gevent", "per second", "broker µs", "server µs")
    return table(head, rows)


_BESIDE = ("cpu_us", "rate", "broker_us", "server_us")


def rpc_workloads(results: Results) -> str:
    return described(results.workloads_of("rpc-http"))


def rpc_http(results: Results) -> str:
    return contest(results, "rpc-http")


def rpc_engine(results: Results) -> str:
    return contest(results, "rpc-engine")


def rpc_beside(results: Results) -> str:
    """What broker and responder took for a request to heatperf."""
    rows = []
    for workload in results.workloads_of("rpc-http"):
        where = {"workload": workload["key"], "server": OURS}
        found = [results.spread("rpc-http", name, **where) for name in ("cpu_us", "engine_us", "broker_us")]
        if found[0]:
            rows.append((workload["name"], *(middle(one) for one in found)))
    return table(("CPU µs per request", "heatperf", "responder", "broker"), rows)


def rpc_latency(results: Results) -> str:
    """At half of what each server can do."""
    rows = []
    for server in results.servers.values():
        found = [
            results.spread("rpc-latency", name, server=server["key"])
            for name in ("capacity", "rate", "p50_ms", "p99_ms", "p99.9_ms", "max_ms")
        ]
        if found[0]:
            rows.append((server["name"], *(middle(one) for one in found)))
    return table(("stack list of 1", "capacity, req/s", "sent, req/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms"), rows)


def rpc_lists(results: Results) -> str:
    """What a long list costs, and what it does to others."""
    rows = []
    for server in results.servers.values():
        key = {"server": server["key"]}
        records = results.records("rpc-lists", **key)
        if not records:
            continue
        floor = results.spread("rpc-lists", "floor_us", **key)
        cost = results.spread("rpc-lists", "cpu_us", **key)
        above = results.quotient("rpc-lists", "cpu_us", "floor_us", **key)
        idle, busy = (results.spread("rpc-lists", f"{name}_p99_ms", **key) for name in ("idle", "busy"))
        slower = results.quotient("rpc-lists", "busy_p99_ms", "idle_p99_ms", **key)
        row = (cost, floor, above, idle, busy, slower)
        rows.append((server["name"], *(middle(one) for one in row)))
    return table(
        ("stack list of 10 000", "CPU µs", "orjson alone µs", "times", "others' p99 ms, idle", "meanwhile", "times"),
        rows,
    )


def rpc_flight(results: Results) -> str:
    """Calls of a second each."""
    rows = []
    for server in results.servers.values():
        records = results.records("rpc-flight", server=server["key"])
        if records:
            seconds = results.spread("rpc-flight", "seconds", server=server["key"])
            most = max(record["connections"] for record in records)
            rows.append((server["name"], str(records[0]["calls"]), spread(seconds, "{:.2f}".format), str(most)))
    return table(("one worker, calls of 1 s each", "at once", "seconds", "connections to the broker"), rows)


PHASES: dict[str, Callable[[Results], str]] = {
    "rpc-client": rpc_client,
    "rpc-http": rpc_http,
    "rpc-latency": rpc_latency,
    "rpc-lists": rpc_lists,
    "rpc-flight": rpc_flight,
    "rpc-engine": rpc_engine,
}
SECTIONS = {made.__name__: made for made in (*PHASES.values(), rpc_workloads, rpc_beside)}
