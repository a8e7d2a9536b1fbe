"""Ways to break a configuration, each with what ``heatperf reload`` must then say.

Comes in: an Installation. Goes out: broken files. A Breakage's ``says`` are parts of the reason: the file to look at,
and the option, section or line in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FACTORY = "_operator_filter:filter_factory"


@dataclass(frozen=True)
class Breakage:
    """
    :ivar inflict: writes the files
    :ivar says: what the reason must contain
    """

    name: str
    inflict: Callable[[Any], None]
    says: tuple[str, ...]


def _filter_that_fails(installation):
    installation.write(paste=installation.paste().replace(f"value = {installation.value}", "value = seven"))


def _filter_that_is_missing(installation):
    installation.write(paste=installation.paste().replace(FACTORY, "_no_such_module:factory"))


def _key_of_another(installation):
    cert, _key = installation.certificate("first")
    _cert, key = installation.certificate("second")
    installation.write(heat_api__cert_file=cert, heat_api__key_file=key)


BREAKAGES = (
    Breakage(
        "unknown flavor",
        lambda installation: installation.write(paste_deploy__flavor="nosuch"),
        ("api-paste.ini", "[paste_deploy] flavor", "nosuch"),
    ),
    Breakage(
        "syntax error in heat.conf",
        lambda installation: installation.write(conf="this line is no option\n"),
        ("heat.conf:", "No ':' or '=' found"),
    ),
    Breakage(
        "wrong value",
        lambda installation: installation.write(heat_api__workers="many"),
        ("heat.conf:", "[heat_api] workers", "many"),
    ),
    Breakage(
        "syntax error in the paste file",
        lambda installation: installation.write(paste="[composite:heat-api\nuse = egg:Paste#urlmap\n"),
        ("api-paste.ini", "no section headers"),
    ),
    Breakage(
        "broken policy file",
        lambda installation: installation.write(policy='"stacks:index": [unfinished\n'),
        ("policy.yaml:", "no YAML"),
    ),
    Breakage("filter that cannot be imported", _filter_that_is_missing, ("api-paste.ini", "filter:probe", "_no_such")),
    Breakage("filter that refuses its option", _filter_that_fails, ("api-paste.ini", "filter:probe", "seven")),
    Breakage(
        "transport that does not exist",
        lambda installation: installation.write(DEFAULT__transport_url="nosuch://host/"),
        ("heat.conf:", "[DEFAULT] transport_url", "nosuch"),
    ),
    Breakage(
        "port of another process",
        lambda installation: installation.write(heat_api__bind_port=installation.taken_port()),
        ("heat.conf:", "[heat_api] bind_", "taken by another process"),
    ),
    Breakage(
        "workers that fail after the fork",
        lambda installation: installation.write(oslo_reports__file_event_handler="no-such-file"),
        ("not every worker could start", "no-such-file"),
    ),
)
#: For a server with TLS.
TLS_BREAKAGES = (
    Breakage(
        "missing certificate",
        lambda installation: installation.write(
            heat_api__cert_file=installation.folder / "no-such.pem",
            heat_api__key_file=installation.folder / "no-such.key",
        ),
        ("heat.conf:", "[heat_api] cert_file", "no-such.pem"),
    ),
    Breakage("key of another certificate", _key_of_another, ("heat.conf:", "[heat_api] key_file", "second.key.pem")),
)
