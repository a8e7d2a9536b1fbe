"""Replays recorded cases against heatperf, or against upstream itself to prove the rig.

In: a broker, a real Keystone where variant ``realks`` is among the variants, the variants, the cases, the combination
of heatperf's choices. Out: the score per group. Used by run.py (make conformance) and by test_floors.py (make test);
the programs in upstream/ do the work in child processes and are kept as they were recorded.

``replay`` lets their own launcher start an engine and a server per variant, as the cases were recorded.
``replay_sharing`` starts one engine for all of its variants, which is what a few cases of many variants need: nearly
all of their time is starting. Call it from the main thread: its parts end with the thread that started them.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import cases
import yaml
from matrix import DEFAULT, Combination
from stack import Heatperf, Keystone, Process, RabbitMQ, StackError, free_port, paths, wait_until
from stack.process import environment, listening

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "upstream"
FLOORS = HERE / "floors.yaml"
KNOWN = HERE / "known_differences.yaml"
# Messages print Python sets; the cases were recorded with this order.
HASH_SEED = {"PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Score:
    """Of one group: cases replayed, cases that agree, and how many of these agree only by an accepted difference."""

    total: int
    passed: int
    accepted: int


def _variants() -> ModuleType:
    sys.path.insert(0, str(PROGRAMS))
    try:
        import variants  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(PROGRAMS))
    module: ModuleType = variants
    return module


def variants() -> dict[str, tuple[str, dict[str, dict[str, str]], dict[str, str] | None]]:
    """The configuration variants by name, in the order of the runner: flavor, options per group, policy rules."""
    return dict(_variants().VARIANTS)


def all_variants() -> list[str]:
    """Names of the configuration variants."""
    return list(variants())


def needs_keystone(variants: Sequence[str]) -> bool:
    return "realks" in variants


def replay(
    folder: Path,
    variants: Sequence[str],
    broker: RabbitMQ,
    keystone: Keystone | None = None,
    peer: str = "heatperf",
    show: int = 5,
    output: TextIO | None = None,
    combination: Combination = DEFAULT,
) -> dict[str, Score]:
    """Replay all cases of the variants, one variant after the other, and return the score per group.

    :param folder: keeps configuration, logs and detailed results per variant
    :param peer: ``heatperf``, or ``upstream`` to run heat-api against its own recording
    :param show: differences to print per variant
    :param output: where the runner's report goes; standard output when None
    :raises StackError: when a server did not start, or nothing was replayed
    """
    chosen = cases.write(folder / "cases", cases.load())
    result = folder / "score.json"
    result.unlink(missing_ok=True)
    url = broker.url(f"conformance-{combination.name}")
    env = environment(HEAT_VENV=str(paths.ROOT / ".peers" / paths.HEAT_PEER), ORACLE_TRANSPORT_URL=url)
    if needs_keystone(variants):
        if keystone is None:
            raise StackError("variant realks needs a real Keystone")
        env |= keystone.admin.environment()
        # The cases append the version themselves.
        env["ORACLE_REAL_KEYSTONE"] = keystone.url.removesuffix("/v3")
        env |= {"ORACLE_SVC_USER": keystone.heat.username, "ORACLE_SVC_PASSWORD": keystone.heat.password}
    command = [paths.peer(paths.HEAT_PEER, "python"), PROGRAMS / "run_all.py", "--work", folder, "--json", result]
    command += ["--dir", chosen, "--variants", ",".join(variants), "--show", str(show)]
    if peer == "upstream":
        command += ["--kind", "reference"]
    else:
        serve = [str(paths.project("heatperf")), "serve", "--workers", "1"]
        # The launcher puts port and file in. What a combination sets comes last, and so it counts.
        command_line = shlex.join(serve) + " --bind 127.0.0.1:{port} --config-file {config} "
        env["CANDIDATE_CMD"] = command_line + shlex.join(_arguments(folder, combination))
        command += ["--kind", "candidate", "--known", KNOWN]
    done = subprocess.run(list(map(str, command)), env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode not in (0, 1) or not result.exists():
        raise StackError(f"the replay ended with {done.returncode}; logs are in {folder}")
    return _scores(json.loads(result.read_text()), folder)


@dataclass(frozen=True)
class Run:
    """One start of heatperf for ``replay_sharing``: a variant's configuration, and the cases it is to answer.

    :param combination: of the server
    :param heat_conf: text of one more configuration file, after the variant's own
    :param files: name -> text, instead of the variant's own or beside them
    :param name: of its folder; the variant's if there is one run of it
    """

    variant: str
    chosen: Sequence[cases.Case]
    combination: Combination = DEFAULT
    heat_conf: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


def tenths(variants: Sequence[str], combination: Combination = DEFAULT) -> list[Run]:
    """A run per variant with a tenth of its cases."""
    chosen = cases.tenth(cases.load())
    return [Run(name, [case for case in chosen if case["variant"] == name], combination) for name in variants]


def replay_sharing(
    folder: Path, runs: Sequence[Run], broker: RabbitMQ, show: int = 5, output: TextIO | None = None
) -> dict[str, dict[str, Score]]:
    """Replay against heatperf, one run after the other, with one recording engine; per run, the score per group.

    :raises StackError: when a part did not start, or a run had nothing to replay
    """
    url = broker.url("sharing")
    found: dict[str, dict[str, Score]] = {}
    with ExitStack() as running:
        keystone_url = running.enter_context(_fake_keystone(folder / "keystone"))
        config = rendered("base", folder / "engine", keystone_url, url)
        log = running.enter_context(recording_engine(folder / "engine", config))
        for run in runs:
            name = run.name or run.variant
            place = folder / name
            config = rendered(run.variant, place, keystone_url, url)
            for file, text in run.files.items():
                (place / file).write_text(text)
            corpus = cases.write(place / "cases", run.chosen)
            arguments = _arguments(place, run.combination, run.heat_conf)
            with Heatperf(place, config, workers=1, arguments=arguments, env=HASH_SEED) as server:
                if run.variant == "small":  # its cases want the node taken out of the load balancer
                    (place / "disable").touch()
                told = {"variant": run.variant, "base-url": server.url, "engine-log": log}
                told |= {"keystone-url": keystone_url, "golden": corpus / "golden"}
                told |= {"known": KNOWN, "show": show, "json": place / "result.json"}
                command = [paths.peer(paths.HEAT_PEER, "python"), PROGRAMS / "replay.py"]
                command += [f"--{option}={value}" for option, value in told.items()]
                subprocess.run(list(map(str, command)), env=environment(), stdout=output, stderr=subprocess.STDOUT)
            found[name] = _scores(json.loads((place / "result.json").read_text())["groups"], folder)
    return found


def replay_planned(
    folder: Path, broker: RabbitMQ, show: int = 5, extra: Sequence[Run] = ()
) -> tuple[dict[str, Score], dict[str, dict[str, Score]]]:
    """Replay against heatperf what floors.yaml says of the default combination, in about half a minute.

    Most variants in full are replayed as the cases were recorded, the last and the tenths beside them with one engine:
    waiting for servers to start leaves a processor to the other. The reports go to ``folder``, launched.txt and
    shared.txt.

    :param extra: further runs, with the same engine
    :returns: the scores of the plan, and those of each extra run
    """
    *first, last = load_floors()["full"]
    runs = [Run(last, [case for case in cases.load() if case["variant"] == last]), *tenths(sampled_variants())]
    launched, shared = folder / "launched", folder / "shared"
    for place in (launched, shared):
        place.mkdir(parents=True, exist_ok=True)
    broker.url(f"conformance-{DEFAULT.name}")  # before the thread: the broker makes one virtual host at a time
    with (
        ThreadPoolExecutor(1) as second,
        launched.with_suffix(".txt").open("w") as report,
        shared.with_suffix(".txt").open("w") as other,
    ):
        full = second.submit(replay, launched, first, broker, show=show, output=report)
        rest = replay_sharing(shared, [*runs, *extra], broker, show, other)
        more = {run.name: rest.pop(run.name) for run in extra}
        return added(full.result(), *rest.values()), more


def added(*parts: Mapping[str, Score]) -> dict[str, Score]:
    """The scores of several replays as one."""
    groups = sorted({group for part in parts for group in part})
    each = {group: [part[group] for part in parts if group in part] for group in groups}
    return {
        group: Score(sum(s.total for s in scores), sum(s.passed for s in scores), sum(s.accepted for s in scores))
        for group, scores in each.items()
    }


def _scores(counts: Mapping[str, Sequence[int]], folder: Path) -> dict[str, Score]:
    if not counts:
        raise StackError(f"nothing was replayed; logs are in {folder}")
    return {group: Score(*numbers) for group, numbers in counts.items()}


def _arguments(folder: Path, combination: Combination, heat_conf: str = "") -> list[str]:
    text = combination.heat_conf + heat_conf
    if not text:
        return combination.arguments
    extra = folder / "extra.conf"
    extra.write_text(text)
    return [*combination.arguments, "--config-file", str(extra)]


def rendered(variant: str, place: Path, keystone_url: str, transport_url: str) -> Path:
    """Write the variant's files into a folder, and return its heat.conf."""
    place.mkdir(parents=True, exist_ok=True)
    for name, text in _variants().render(variant, str(place), keystone_url, transport_url, "heat", "heat").items():
        (place / name).write_text(text)
    return place / "heat.conf"


@contextmanager
def _fake_keystone(place: Path) -> Iterator[str]:
    """The stand-in for Keystone of the recorded cases; its URL."""
    port = free_port()
    command = [paths.peer(paths.HEAT_PEER, "python"), PROGRAMS / "fake_keystone.py", "--port", str(port)]
    keystone = Process("keystone", [str(word) for word in command], place)
    try:
        keystone.start()
        wait_until(lambda: listening(port), 20, "listen", keystone)
        yield f"http://127.0.0.1:{port}"
    finally:
        keystone.stop()


@contextmanager
def recording_engine(place: Path, config: Path) -> Iterator[Path]:
    """The engine that answers the recorded cases; the file in which it puts down what it was sent."""
    log, ready = place / "engine.jsonl", place / "engine.ready"
    place.mkdir(parents=True, exist_ok=True)
    for path in (log, ready):
        path.unlink(missing_ok=True)
    log.touch()
    command = [paths.peer(paths.HEAT_PEER, "python"), PROGRAMS / "recording_engine.py", "--config-file", config]
    command += ["--log", log, "--ready-file", ready]
    engine = Process("engine", [str(word) for word in command], place)
    try:
        engine.start()
        wait_until(ready.exists, 60, "serve", engine)
        yield log
    finally:
        engine.stop()


def load_floors() -> dict[str, Any]:
    """floors.yaml: ``full`` (variants), ``left_out`` (variants), ``floors`` (group -> cases that must pass)."""
    return dict(yaml.safe_load(FLOORS.read_text()))


def sampled_variants() -> list[str]:
    """The variants of which make test replays a tenth: neither replayed in full nor left out."""
    plan = load_floors()
    return [variant for variant in all_variants() if variant not in (*plan["full"], *plan["left_out"])]


def raise_floors(scores: Mapping[str, Score]) -> dict[str, tuple[int, int]]:
    """Write the scores into floors.yaml where they are higher, and return what changed as group -> (old, new).

    A floor never sinks here: giving a case up is an edit by hand, with a reason in the commit.
    """
    old = load_floors()["floors"]
    risen = {
        group: (old.get(group, 0), score.passed)
        for group, score in sorted(scores.items())
        if score.passed > old.get(group, 0)
    }
    head = FLOORS.read_text().partition("floors:\n")[0]
    floors = old | {group: new for group, (_, new) in risen.items()}
    FLOORS.write_text(head + "floors:\n" + "".join(f"  {group}: {floors[group]}\n" for group in sorted(floors)))
    return risen
