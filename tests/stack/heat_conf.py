"""heat.conf as an operator writes it: one file that the stock engine and the API under test read unchanged.

In: the broker's URL, Keystone, a database URL, the api-paste.ini. Out: the text of the file. Pure.
"""

from collections.abc import Mapping
from pathlib import Path

from .keystone import Credentials, Keystone

Groups = dict[str, dict[str, str]]


def _password(credentials: Credentials, project: bool) -> dict[str, str]:
    options = {
        "auth_type": "password",
        "auth_url": credentials.auth_url,
        "username": credentials.username,
        "password": credentials.password,
        "user_domain_name": "Default",
    }
    if project:
        options |= {"project_name": credentials.project, "project_domain_name": "Default"}
    return options


def heat_conf(
    keystone: Keystone,
    transport_url: str,
    database_url: str,
    paste_file: Path,
    extra: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The file's text; ``extra`` adds or replaces options per group."""
    api = f"http://127.0.0.1:{keystone.orchestration_port}"
    groups: Groups = {
        "DEFAULT": {
            "transport_url": transport_url,
            "auth_encryption_key": "0123456789abcdef0123456789abcdef",
            "num_engine_workers": "1",
            "region_name_for_services": keystone.region,
            "heat_metadata_server_url": api,
            "stack_user_domain_name": keystone.user_domain,
            "stack_domain_admin": keystone.domain_admin,
            "stack_domain_admin_password": keystone.domain_admin_password,
        },
        "database": {"connection": database_url},
        "paste_deploy": {"api_paste_config": str(paste_file)},
        "keystone_authtoken": {"www_authenticate_uri": keystone.url} | _password(keystone.heat, project=True),
        # A trust is impersonated with the trust's own scope: a project here would contradict it.
        "trustee": _password(keystone.heat, project=False),
        "clients_keystone": {"auth_uri": keystone.url},
    }
    for group, options in (extra or {}).items():
        groups.setdefault(group, {}).update(options)
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
        for group, options in groups.items()
    )
