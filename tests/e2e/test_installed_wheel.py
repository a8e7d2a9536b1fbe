"""heatperf as its users get it: a wheel in a virtual environment of its own, run from outside the checkout.

The environment borrows the dependencies from .venv, since installing them again would prove nothing about the wheel.
"""

import subprocess
import zipfile
from pathlib import Path

import pytest
import requests
from stack import Heatperf
from stack.launcher import Launcher
from stack.paths import ROOT, project
from stack.process import environment, run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    run([project("pip"), "wheel", *options, ROOT], timeout=180, env=environment())
    (built,) = folder.glob("heatperf-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has heatperf from the wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    python = folder / "bin" / "python"
    run([project("python"), "-m", "venv", "--without-pip", folder], timeout=120, env=environment())
    options = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    run([project("pip"), *options], timeout=120, env=environment())
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = Path(run([project("python"), "-c", purelib], timeout=30).strip())
    ours = Path(run([python, "-c", purelib], timeout=30).strip())
    # Everything of .venv but the editable installation of this project (and .pth files, which only site folders need).
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for entry in theirs.iterdir():
        if not entry.name.lower().startswith(("heatperf", "_heatperf", "__editable__")) and entry.suffix != ".pth":
            (borrowed / entry.name).symlink_to(entry)
    (ours / "borrowed.pth").write_text(f"{borrowed}\n")
    return folder / "bin"


def call(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment(HOME=str(folder)), capture_output=True, text=True, timeout=60
    )


def test_the_wheel_holds_the_packaged_files_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "heatperf/etc/api-paste.ini" in names
    assert not [name for name in names if name.split("/")[0] not in ("heatperf",) and ".dist-info/" not in name]


def test_the_program_runs_from_the_wheel_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import heatperf; print(heatperf.__file__)", folder=tmp_path)
    assert where.stdout.startswith(str(installed.parent)), where.stderr
    version = call(installed / "heatperf", "--version", folder=tmp_path)
    told = call(installed / "python", "-c", "import heatperf; print(heatperf.__version__)", folder=tmp_path)
    assert version.returncode == 0, version.stderr
    assert told.stdout.strip() in version.stdout.split()


def test_config_sample_is_complete_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    sample = call(installed / "heatperf", "config", "sample", folder=tmp_path)
    assert sample.returncode == 0, sample.stderr
    lines = sample.stdout.splitlines()
    for group in ("[DEFAULT]", "[heat_api]", "[paste_deploy]", "[keystone_authtoken]", "[oslo_messaging_rabbit]"):
        assert group in lines


def test_upstreams_name_of_the_program_is_there(installed: Path, tmp_path: Path) -> None:
    answer = call(installed / "heat-api", "--version", folder=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_the_packaged_paste_file_serves_in_development_mode(
    installed: Path, launcher: Launcher, tmp_path: Path
) -> None:
    server = launcher.start(Development(tmp_path, installed / "heatperf"))
    try:
        answer = requests.get(f"{server.url}/healthcheck", timeout=30)
        assert answer.status_code == 200
    finally:
        launcher.stop(server)


class Development(Heatperf):
    """``heatperf serve --dev`` with no configuration anywhere."""

    def __init__(self, directory: Path, executable: Path) -> None:
        super().__init__(directory, Path(), workers=1, executable=executable, env={"HOME": str(directory)})

    def command(self) -> list[str | Path]:
        assert self.executable
        return [self.executable, "serve", "--dev", "--workers", "1", "--bind", f"127.0.0.1:{self.port}"]
