"""Fixtures shared by all layers, and the report at the end of a run.

The real parts (tests/stack) start when a test first asks for them and run until the session ends. A part that is
missing or does not start fails the test, with the remedy: nothing here skips, or a green run would say less than it
seems to. When a test fails, the ends of the running parts' logs go into its report, from where they were when the test
began.

Layers are the folders under tests/; the last lines of a run count each.
"""

import gc
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS)]

from stack import Cloud, Heatperf, Keystone, OpenStackClient, RabbitMQ, UpstreamApi, free_port  # noqa: E402
from stack.api import ApiServer  # noqa: E402
from stack.launcher import Launcher  # noqa: E402
from stack.paths import EXAMPLES  # noqa: E402
from stack.process import tail  # noqa: E402

LAYERS = ("unit", "wire", "process", "faults", "conformance", "e2e")
LAUNCHER: pytest.StashKey[Launcher] = pytest.StashKey()
CLOSING: pytest.StashKey[list[str]] = pytest.StashKey()
LOG_OFFSETS: pytest.StashKey[dict[Path, int]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--api",
        choices=["heatperf", "upstream"],
        default="heatperf",
        help="the API server of the end-to-end tests; upstream proves that the tests themselves are right",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LAUNCHER] = Launcher()
    config.stash[CLOSING] = []


def pytest_collection_finish() -> None:
    # Modules, items and their parameters live as long as the run. Every full collection would look through them again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def launcher(request: pytest.FixtureRequest) -> Launcher:
    return request.config.stash[LAUNCHER]


@pytest.fixture(scope="session")
def stack_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's parts have their run directories."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def broker(launcher: Launcher, stack_directory: Path) -> Iterator[RabbitMQ]:
    """A private RabbitMQ node; ``broker.url("name")`` makes a virtual host of that name."""
    part = launcher.start(RabbitMQ(stack_directory / "rabbitmq"))
    yield part
    launcher.stop(part)


@pytest.fixture(scope="session")
def keystone(launcher: Launcher, stack_directory: Path) -> Iterator[Keystone]:
    """A private Keystone, whose catalog names a port for orchestration that is kept free for ``api``."""
    part = launcher.start(Keystone(stack_directory / "keystone", free_port()))
    yield part
    launcher.stop(part)


@pytest.fixture(scope="session")
def cloud(launcher: Launcher, stack_directory: Path, broker: RabbitMQ, keystone: Keystone) -> Iterator[Cloud]:
    """Broker, Keystone and a stock heat-engine on one heat.conf with upstream's own api-paste.ini."""
    part = launcher.start(Cloud(stack_directory / "cloud", broker, keystone))
    yield part
    launcher.stop(part)


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, launcher: Launcher, stack_directory: Path, cloud: Cloud) -> Iterator[ApiServer]:
    """The API server in front of the cloud, with two workers, where Keystone's catalog says."""
    server = UpstreamApi if request.config.getoption("--api") == "upstream" else Heatperf
    part = launcher.start(server(stack_directory / "api", cloud.config_file, cloud.api_port, workers=2))
    yield part
    launcher.stop(part)


@pytest.fixture(scope="session")
def closing_lines(request: pytest.FixtureRequest) -> list[str]:
    """Lines that a test adds to the end of the report."""
    return request.config.stash[CLOSING]


@pytest.fixture
def openstack(cloud: Cloud, api: ApiServer, tmp_path: Path) -> OpenStackClient:
    """The stock client as an ordinary user, talking to ``api``."""
    return OpenStackClient(cloud.keystone.user, tmp_path)


@pytest.fixture(scope="session")
def examples() -> Path:
    """docs/examples, the templates that the documentation shows."""
    return EXAMPLES


# -- reports ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    logs = (log for part in item.config.stash[LAUNCHER].running for log in part.logs)
    item.stash[LOG_OFFSETS] = {log: log.stat().st_size for log in logs}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "stack_directory" in getattr(item, "fixturenames", ()):
        for part in item.config.stash[LAUNCHER].running:
            for log in part.logs:
                if text := tail(log, start=item.stash[LOG_OFFSETS].get(log, 0)):
                    report.sections.append((f"{part.name}: {log}", text))
    return report


def layer_of(nodeid: str) -> str:
    """The layer of a test: the folder under tests/ that holds it."""
    folder = nodeid.removeprefix("tests/").split("/")[0]
    return folder if folder in LAYERS else "other"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    # After everything else, pytest's own short summary included.
    yield
    counts: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            layer = layer_of(report.nodeid)
            seconds[layer] += report.duration
            # "" holds setups and teardowns that went well.
            if outcome:
                counts.setdefault(layer, Counter())[outcome] += 1
    terminalreporter.section("layers")
    asked = [Path(argument.partition("::")[0]).resolve() for argument in terminalreporter.config.args]
    for layer in [*LAYERS, *sorted(set(counts) - set(LAYERS))]:
        # A layer that was asked for and has no test is worth a line; one that was not is not.
        if layer not in counts and not any((TESTS / layer).is_relative_to(path) for path in asked):
            continue
        found = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.get(layer, Counter()).items()))
        terminalreporter.write_line(f"{layer:<12} {found or 'none ran':<40} {seconds[layer]:7.1f} s")
    for line in terminalreporter.config.stash[CLOSING]:
        terminalreporter.write_line(line)
