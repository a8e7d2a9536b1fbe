"""Where the programs of the project and of its peers are; StackError says what to run when one is absent."""

from pathlib import Path

from .process import StackError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
HEAT_PEER = "heat-27"


def project(program: str) -> Path:
    """``.venv/bin/<program>``: the project itself."""
    return _program(ROOT / ".venv", program, "make venv")


def peer(name: str, program: str) -> Path:
    """``.peers/<name>/bin/<program>``: software that heatperf is tested against, in an environment of its own."""
    return _program(ROOT / ".peers" / name, program, "make peers")


def _program(environment: Path, program: str, remedy: str) -> Path:
    path = environment / "bin" / program
    if not path.exists():
        raise StackError(f"{path.relative_to(ROOT)} is missing; run: {remedy}")
    return path


def upstream_paste_file() -> Path:
    """The api-paste.ini that ships with the openstack-heat package."""
    path = ROOT / ".peers" / HEAT_PEER / "etc" / "heat" / "api-paste.ini"
    if not path.exists():
        raise StackError(f"{path.relative_to(ROOT)} is missing; run: make peers")
    return path
