"""Keystone on SQLite under uWSGI, with the projects, users, roles and endpoints that Heat wants.

In: a run directory and the port on which the orchestration endpoint will be. Out: identity v3 at ``url``, ready to
authenticate; the credentials of an administrator, of an ordinary user and of Heat's service user.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from .paths import peer
from .process import Part, Process, StackError, environment, free_port, run, wait_until

_WSGI = """\
from keystone.server.wsgi import initialize_public_application

application = initialize_public_application()
"""


def _orchestration(port: int) -> str:
    # One %-template serves every project; the API is reached where the tests start it.
    return f"http://127.0.0.1:{port}/v1/%(tenant_id)s"


@dataclass(frozen=True)
class Credentials:
    """A user of domain Default with a project to be in, as the OS_* variables of the client name them."""

    auth_url: str
    username: str
    password: str
    project: str
    region: str = "RegionOne"

    def environment(self) -> dict[str, str]:
        """The OS_* variables."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": self.username,
            "OS_PASSWORD": self.password,
            "OS_PROJECT_NAME": self.project,
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": self.region,
        }


class Keystone(Part):
    """The identity service. ``admin`` may do everything, ``user`` is an ordinary member, ``heat`` the service user."""

    name = "keystone"
    region = "RegionOne"
    user_domain = "heat"
    domain_admin = "heat_domain_admin"

    def __init__(self, directory: Path, orchestration_port: int, processes: int = 2) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.orchestration_port = orchestration_port
        self.processes = processes
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self.admin = Credentials(self.url, "admin", secrets.token_hex(8), "admin")
        self.user = Credentials(self.url, "demo", secrets.token_hex(8), "demo")
        self.heat = Credentials(self.url, "heat", secrets.token_hex(8), "service")
        self.domain_admin_password = secrets.token_hex(8)
        self._server: Process | None = None

    def token(self, credentials: Credentials) -> str:
        """A project-scoped token for these credentials; StackError when Keystone refuses."""
        return self._login(credentials)[0]

    def project_id(self, credentials: Credentials) -> str:
        """The id of the project that these credentials are scoped to."""
        return self._login(credentials)[1]

    def add_region(self, region: str, port: int) -> None:
        """A region of the catalog whose orchestration endpoint is 127.0.0.1:port, for one more API server.

        Identity is the same there: the engine looks for it in the region that a call came from.
        """
        session = requests.Session()
        session.headers["X-Auth-Token"] = self.token(self.admin)
        services = {one["type"]: one["id"] for one in self._call(session, "GET", "/services")["services"]}
        self._call(session, "POST", "/regions", {"region": {"id": region}})
        self._add_endpoints(session, services["orchestration"], region, _orchestration(port))
        self._add_endpoints(session, services["identity"], region, self.url)

    def _login(self, credentials: Credentials) -> tuple[str, str]:
        domain = {"name": "Default"}
        user = {"name": credentials.username, "domain": domain, "password": credentials.password}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": credentials.project, "domain": domain}},
            }
        }
        answer = requests.post(f"{self.url}/auth/tokens", json=body, timeout=30)
        if answer.status_code != 201:
            raise StackError(f"keystone refused {credentials.username}: {answer.status_code} {answer.text}")
        return answer.headers["X-Subject-Token"], str(answer.json()["token"]["project"]["id"])

    def _start(self) -> None:
        home = self.directory
        config = home / "keystone.conf"
        config.write_text(
            f"[DEFAULT]\nlog_file = {home}/keystone.log\n"
            f"[database]\nconnection = sqlite:///{home}/keystone.db\n"
            f"[fernet_tokens]\nkey_repository = {home}/fernet\n"
            f"[credential]\nkey_repository = {home}/credential\n"
        )
        (home / "public.py").write_text(_WSGI)
        env = environment(OS_KEYSTONE_CONFIG_FILES=str(config))
        self._prepare(config, env)
        self._server = Process(
            "keystone-uwsgi",
            [
                peer("keystone", "uwsgi"),
                *("--http-socket", f"127.0.0.1:{self.port}", "--wsgi-file", home / "public.py"),
                *("--master", "--processes", str(self.processes), "--enable-threads", "--lazy-apps", "--need-app"),
                *("--buffer-size", "65535", "--die-on-term", "--disable-logging"),
                # Unannounced closes of kept-alive connections make clients see resets.
                *("--add-header", "Connection: close"),
            ],
            home,
            env,
        )
        self._server.start()
        wait_until(self._answers, 60, "answer identity v3", self._server, interval=0.1)
        self._create_objects()

    def _prepare(self, config: Path, env: dict[str, str]) -> None:
        # What fernet_setup and credential_setup would do: key 0 is the next one, the highest is in use. Done here
        # because each run of keystone-manage takes seconds, and these two insist on naming a Unix user.
        for repository in ("fernet", "credential"):
            folder = self.directory / repository
            folder.mkdir(mode=0o700, exist_ok=True)
            for number in ("0", "1"):
                key = folder / number
                key.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
                key.chmod(0o600)
        bootstrap = ["bootstrap", "--bootstrap-password", self.admin.password, "--bootstrap-region-id", self.region]
        for interface in ("public", "internal", "admin"):
            bootstrap += [f"--bootstrap-{interface}-url", self.url]
        for step in (["db_sync"], bootstrap):
            command: list[str | Path] = [peer("keystone", "keystone-manage"), "--config-file", config, *step]
            run(command, timeout=120, env=env, cwd=self.directory)

    def _answers(self) -> bool:
        try:
            return requests.get(self.url, timeout=30).status_code == 200
        except requests.RequestException:
            return False

    def _create_objects(self) -> None:
        session = requests.Session()
        session.headers["X-Auth-Token"] = self.token(self.admin)

        def call(method: str, path: str, body: dict[str, object] | None = None) -> Any:
            return self._call(session, method, path, body)

        def create(kind: str, **fields: object) -> str:
            return str(call("POST", f"/{kind}s", {kind: fields})[kind]["id"])

        roles = {role["name"]: role["id"] for role in call("GET", "/roles")["roles"]}
        for role in ("heat_stack_owner", "heat_stack_user"):
            roles[role] = create("role", name=role)

        def grant(role: str, user: str, scope: str) -> None:
            call("PUT", f"/{scope}/users/{user}/roles/{roles[role]}")

        service_project = create("project", name=self.heat.project, domain_id="default")
        heat = create("user", name=self.heat.username, password=self.heat.password, domain_id="default")
        grant("admin", heat, f"projects/{service_project}")
        project = create("project", name=self.user.project, domain_id="default")
        user = create("user", name=self.user.username, password=self.user.password, domain_id="default")
        for role in ("member", "reader", "heat_stack_owner"):
            grant(role, user, f"projects/{project}")
        domain = create("domain", name=self.user_domain)
        domain_admin = create("user", name=self.domain_admin, password=self.domain_admin_password, domain_id=domain)
        grant("admin", domain_admin, f"domains/{domain}")
        service = create("service", type="orchestration", name="heat")
        self._add_endpoints(session, service, self.region, _orchestration(self.orchestration_port))

    def _add_endpoints(self, session: requests.Session, service: str, region: str, url: str) -> None:
        fields = {"service_id": service, "region_id": region, "url": url}
        for interface in ("public", "internal", "admin"):
            self._call(session, "POST", "/endpoints", {"endpoint": fields | {"interface": interface}})

    def _call(self, session: requests.Session, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        answer = session.request(method, self.url + path, json=body, timeout=30)
        if answer.status_code >= 300:
            raise StackError(f"keystone: {method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def _stop(self) -> None:
        if self._server:
            self._server.stop()
        self._server = None
