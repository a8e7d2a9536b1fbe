"""``make contract``: writes docs/api-contract.md from the recorded cases, the code and the known differences.

In: upstream/ and own/, known_differences.yaml, the table of docs/migration.md, requirements/, api/routes.py and
rpc/methods.py. Out: the document. With --check nothing is written: ends with 1 when the committed file is not what
would be written. test_contract.py does the same in make test.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cases  # noqa: E402  (found beside this file)
import rig  # noqa: E402

from heatperf.api.routes import ANY, ROUTES  # noqa: E402
from heatperf.rpc.methods import METHODS, REQUIRED, TOPIC  # noqa: E402

DOCUMENT = ROOT / "docs" / "api-contract.md"
MIGRATION = ROOT / "docs" / "migration.md"
#: Of the RPC API, as stock engines of the last releases have it.
RPC_API = "1.36"

_HEAD = """\
# What is the same as upstream, and what is not

Written by `make contract`; edit tests/conformance/contract.py or what it reads, not this file.

heatperf answers as upstream's heat-api does: status, the headers a client acts on, the JSON, and the messages to
heat-engine (method, version, arguments, context). This page says how far tests hold it to that.

- `make conformance` replays recorded requests and compares with what upstream answered. `MATRIX=all` repeats it on
  every loop, transport and set of stations.
- `make compare` sends generated requests to upstream and to heatperf side by side; what differs becomes a case.
- `make test` replays a part of the recorded requests ({plan}),
  and runs stock clients, Keystone and heat-engine.
"""
_COMPARED = """
## Compared with

| software | version | for |
|---|---|---|
{rows}
"""
_CASES = """
## Recorded requests

{total} requests with upstream's answers and messages{own}.

| group | cases | in configurations |
|---|---:|---|
{groups}

| configuration | flavor | cases | sets |
|---|---|---:|---|
{variants}

Configurations that have no recorded answers of their own, and their tests:

| configuration | tests |
|---|---|
{others}
"""
_OTHERS = {
    "api-paste.ini with a pipeline per flavor (Stein), policy.json, tracing on": (
        "tests/conformance/test_configurations.py",  # the same cases
    ),
    "upstream's own api-paste.ini, memcached, an audit filter": ("tests/e2e",),
    "flavor standalone": ("tests/e2e/test_flavors.py", "tests/unit/test_pipeline_identity.py"),
    "flavor custombackend": ("tests/conformance/test_custombackend.py", "tests/unit/test_pipeline_stations.py"),
    "osprofiler: HMAC keys, a trace from the API into the engine": (
        "tests/e2e/test_tracing.py",
        "tests/unit/test_pipeline_identity.py",
    ),
}
_DIFFERS = """
## What differs, and why

Accepted where requests are compared (tests/conformance/known_differences.yaml):

{known}

Not seen by any request that is compared (the table of [migration.md](migration.md#what-differs-and-why)):

{migration}
"""
_ROUTES = """
## Requests

Below `/v1`. Every path also answers OPTIONS with 204 and methods it does not have with 405, except `/services`.

| method | path | action |
|---|---|---|
{rows}
"""
_METHODS = """
## Messages to the engine

Topic `{topic}`, RPC API {api}. A message carries the version of its method, and every argument listed here, with the
value in brackets where the request says nothing. The last column counts the recorded requests that send it.

| method | version | arguments | cases |
|---|---|---|---:|
{rows}
"""


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _lines(rows: Iterable[str]) -> str:
    return "\n".join(rows)


def _pinned(file: str, package: str) -> str:
    """The version of a package in requirements/FILE.txt."""
    text = (ROOT / "requirements" / f"{file}.txt").read_text()
    found = re.search(rf"(?mi)^{re.escape(package)}==(\S+)", text)
    if not found:
        raise LookupError(f"requirements/{file}.txt does not pin {package}")
    return found[1]


def _compared() -> str:
    heat = sorted((ROOT / "requirements").glob("heat-*.txt"), reverse=True)
    newest, *older = (path.stem for path in heat)
    rows = [
        (
            "openstack-heat",
            _pinned(newest, "openstack-heat"),
            "the recorded answers, `make compare`, engine of the tests",
        ),
        ("uWSGI", _pinned(newest, "uwsgi"), "server of the recorded answers"),
        ("gunicorn", _pinned(newest, "gunicorn"), "server of a second answer, where the two servers differ"),
        ("oslo.messaging", _pinned(newest, "oslo.messaging"), "upstream's side of the broker"),
        ("keystone", _pinned("keystone", "keystone"), "tokens of the end-to-end tests and of configuration realks"),
        *((name, _pinned("client", name), "client") for name in ("python-openstackclient", "python-heatclient")),
        ("openstacksdk", _pinned("client", "openstacksdk"), "client"),
        *(("openstack-heat", _pinned(name, "openstack-heat"), "older engine behind heatperf") for name in older),
    ]
    return _COMPARED.format(rows=_lines(_row(*row) for row in rows))


def _listed(settings: dict[str, dict[str, str]]) -> str:
    return ", ".join(f"`[{group}] {option}`" for group, options in settings.items() for option in options)


def _cases() -> str:
    everything = cases.load()
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for case in everything:
        groups[case["group"]][case["variant"]] += 1
    ours = sum(case["group"] == "compared" for case in everything)
    counts = Counter(case["variant"] for case in everything)
    variants = []
    for name, (flavor, settings, policy) in rig.variants().items():
        sets = [_listed(settings), "a policy file" if policy else ""]
        if flavor == "noauth" and name != "strict":
            sets.append("`[oslo_policy] enforce_new_defaults`")
        variants.append(_row(name, flavor, counts[name], "; ".join(filter(None, sets)) or "nothing"))
    return _CASES.format(
        total=len(everything),
        own=f", {ours} of which `make compare` has found" if ours else "",
        groups=_lines(
            _row(group, sum(members.values()), ", ".join(f"{name} {members[name]}" for name in sorted(members)))
            for group, members in sorted(groups.items())
        ),
        variants=_lines(variants),
        others=_lines(_row(what, ", ".join(tests)) for what, tests in _OTHERS.items()),
    )


def _known() -> str:
    entries = yaml.safe_load(rig.KNOWN.read_text()) or []
    if not entries:
        return "None."
    rows = [_row("requests", "what", "why"), _row("---", "---", "---")]
    for entry in entries:
        rows.append(_row(_cell(selected(entry)), _cell(", ".join(entry.get("kinds", ["*"]))), _cell(entry["reason"])))
    return _lines(rows)


def selected(entry: dict[str, object]) -> str:
    """Which requests an entry of known_differences.yaml is about."""
    where = {"generated": "of `make compare`"}.get(str(entry.get("group")), "")
    words = [where] if where else [f"group {entry['group']}"] if "group" in entry else []
    words += [f"{key} {entry[key]}" for key in ("id", "tag", "variant") if key in entry]
    words += [f"{key} with `{entry[key]}`" for key in ("request", "text") if key in entry]
    return ", ".join(words)


def _cell(text: object) -> str:
    """Text that is safe inside a table: on one line, bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _migration() -> str:
    table = MIGRATION.read_text().partition("## What differs, and why")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    if len(rows) < 3:
        raise LookupError("docs/migration.md has no table under 'What differs, and why'")
    return _lines(rows)


def _routes() -> str:
    rows = []
    for group in ROUTES:
        for route in group.routes:
            path = (group.prefix + route.path).replace(r"\x3A", ":")
            methods = "any" if route.methods == ANY else ", ".join(route.methods)
            rows.append(_row(methods, f"`{_cell(path)}`", f"{route.controller}.{route.action}"))
    return _ROUTES.format(rows=_lines(rows))


def _argument(name: str, default: object) -> str:
    return name if default is REQUIRED else f"{name} [{json.dumps(default)}]"


def _methods() -> str:
    sent: Counter[str] = Counter()
    for answer in cases.load("golden"):
        sent.update({message["method"] for message in answer["rpc"]})
    rows = [
        _row(
            name,
            method.version,
            _cell(", ".join(_argument(*pair) for pair in method.arguments.items()) or "none"),
            sent[name] or "",
        )
        for name, method in sorted(METHODS.items())
    ]
    return _METHODS.format(topic=TOPIC, api=RPC_API, rows=_lines(rows))


def document() -> str:
    """The text of docs/api-contract.md."""
    plan = ", ".join(rig.load_floors()["full"]) + " in full, a tenth of the others"
    differs = _DIFFERS.format(known=_known(), migration=_migration())
    return _HEAD.format(plan=plan) + _compared() + _cases() + differs + _routes() + _methods()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make contract", description="Write docs/api-contract.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when the file is not current")
    options = parser.parse_args(arguments)
    text = document()
    if options.check:
        return 0 if DOCUMENT.exists() and DOCUMENT.read_text() == text else 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
