"""``heatperf config check``: what a start would refuse, and what operators often get wrong.

In: arguments as for a start, and functions that try the rest (flags, policy, pipeline). Out: findings on a stream and
an exit code: 2 if a start would be refused, else 0 (warnings are advice). Runs in the command line process; connects
to nothing, opens no log.
"""

import configparser
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from oslo_config import cfg

from heatperf.config import files, load, logs, options, show, validate
from heatperf.errors import ConfigurationError

# Options that existed once, or never did, and still stand in files.
STALE = {
    ("oslo_messaging_rabbit", "heartbeat_in_pthread"): "oslo.messaging 18 removed it (heartbeats always have their own"
    " thread); remove the line",
    ("oslo_messaging_rabbit", "rabbit_quorum_queues"): "there is no such option and it has no effect; the name is"
    " rabbit_quorum_queue",
    ("oslo_policy", "enforce_scope"): "oslo.policy 6 removed it and enforces scope always; remove the line",
    ("keystone_authtoken", "auth_uri"): "its name is www_authenticate_uri today",
    ("keystone_authtoken", "identity_uri"): "its name is auth_url today, with auth_type = password",
    ("keystone_authtoken", "admin_user"): "use auth_type = password with username",
    ("keystone_authtoken", "admin_password"): "use auth_type = password with password",
    ("keystone_authtoken", "admin_tenant_name"): "use auth_type = password with project_name",
    ("keystone_authtoken", "signing_dir"): "PKI tokens are gone; remove the line",
    ("keystone_authtoken", "revocation_cache_time"): "PKI tokens are gone; remove the line",
    ("keystone_authtoken", "check_revocations_for_cached"): "PKI tokens are gone; remove the line",
    ("keystone_authtoken", "hash_algorithms"): "PKI tokens are gone; remove the line",
    ("DEFAULT", "rpc_backend"): "the driver is the scheme of transport_url today",
    ("DEFAULT", "rabbit_host"): "the broker is named by transport_url today",
    ("DEFAULT", "rabbit_password"): "the broker is named by transport_url today",
    ("DEFAULT", "verbose"): "oslo.log has no such option any more; INFO is the default",
}

# Groups whose every option we know: a name that is none of them is a slip or a leftover. [DEFAULT] and [clients*] are
# shared with heat-engine.
COMPLETE = (
    "heat_api",
    "eventlet_opts",
    "paste_deploy",
    "auth_password",
    "noauth",
    "revision",
    "keystone_authtoken",
    "oslo_messaging_rabbit",
    "oslo_messaging_notifications",
    "oslo_policy",
    "oslo_middleware",
    "cors",
    "healthcheck",
    "profiler",
    "oslo_reports",
    "oslo_concurrency",
)

# Options of heat-engine in [DEFAULT] whose names resemble ours.
_ENGINE = (
    "max_nested_stack_depth",
    "max_resources_per_stack",
    "max_stacks_per_tenant",
    "max_server_name_length",
    "max_events_per_stack",
    "max_snapshots_per_stack",
    "max_software_configs_per_tenant",
    "max_software_deployments_per_tenant",
    "max_interface_check_attempts",
    "template_dir",
    "num_engine_workers",
    "stack_action_timeout",
    "action_retry_limit",
    "engine_life_check_timeout",
    "metadata_put_timeout",
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of advice."""

    where: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class _Facts:
    """What the lints look at: effective values, assignments of the files, sections of the paste file."""

    def __init__(self, conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> None:
        self.conf = conf
        self.settings = settings
        self.paste_path = conf.find_file(conf.paste_deploy.api_paste_config)
        self.paste = configparser.RawConfigParser(strict=False)
        if self.paste_path:
            try:
                self.paste.read(self.paste_path)
            except (configparser.Error, UnicodeDecodeError, OSError):
                # The pipeline's own loader says what is wrong with it.
                self.paste = configparser.RawConfigParser()

    def setting(self, group: str | None, name: str) -> files.Setting | None:
        """The assignment that decides an option, None if it has its default or comes from elsewhere."""
        opt = next(opt for known, opt in options.registered(self.conf) if (known, opt.dest) == (group, name))
        return files.find(self.settings, group, opt)

    def finding(self, group: str | None, name: str, text: str) -> Finding:
        setting = self.setting(group, name)
        place = validate.label(group, name)
        return Finding(f"{setting.where}, {place}" if setting else place, text)

    def filters(self, factory: str) -> list[str]:
        """Names of the paste file's filters whose factory contains a text."""
        return [
            section
            for section in self.paste.sections()
            if section.startswith("filter") and any(factory in value for _, value in self.paste.items(section))
        ]


def _names(facts: _Facts) -> Iterator[Finding]:
    """Names that no option answers to."""
    known: dict[str, list[str]] = {}
    for group, opt in options.registered(facts.conf):
        known.setdefault(files.normal(group), []).append(opt.dest)
    for setting in show.unread(facts.conf, facts.settings):
        group = files.normal(setting.group)
        where = f"{setting.where}, {validate.label(setting.group, setting.name)}"
        stale = STALE.get((group, setting.name))
        strict = group in COMPLETE
        # heat-engine has far more options in [DEFAULT] than we know, so only a near miss counts there.
        meant = validate.close_match(setting.name, known.get(group, []), 0.75 if strict else 0.88)
        if stale:
            yield Finding(where, stale)
        elif strict:
            yield Finding(where, "no such option; " + (f"did you mean {meant}?" if meant else "it has no effect"))
        elif group == "DEFAULT" and meant and setting.name not in _ENGINE:
            yield Finding(where, f"not an option of the API; did you mean {meant}?")


def _limits(facts: _Facts) -> Iterator[Finding]:
    conf = facts.conf
    if facts.setting("oslo_middleware", "max_request_body_size") and not facts.filters("sizelimit"):
        yield facts.finding(
            "oslo_middleware",
            "max_request_body_size",
            "has no effect, as the paste file has no sizelimit filter; [DEFAULT] max_json_body_size limits bodies",
        )
    if conf.max_template_size > conf.max_json_body_size:
        yield facts.finding(
            None,
            "max_template_size",
            f"templates travel in JSON bodies, which max_json_body_size ({conf.max_json_body_size}) limits to less",
        )
    # The default is 60 too; who did not choose it can do nothing about every start saying so.
    location = conf.get_location("rpc_response_timeout")
    if conf.rpc_response_timeout >= 60 and location is not None and location.location.is_user_controlled:
        yield facts.finding(
            None,
            "rpc_response_timeout",
            f"a call may last {conf.rpc_response_timeout} s, as long as common load balancers wait or longer; give"
            " theirs some seconds more, else clients get its 504 instead of Heat's answer",
        )


def _keystone(facts: _Facts) -> Iterator[Finding]:
    conf = facts.conf
    if conf.paste_deploy.flavor == "noauth":
        yield facts.finding("paste_deploy", "flavor", "noauth takes every caller for an administrator; for tests only")
        name = conf.noauth.token_response
        if name and not os.path.exists(name):
            yield facts.finding("noauth", "token_response", f"there is no file {name}, so no token body is passed on")
        return
    authtoken = conf[options.AUTHTOKEN]
    if authtoken.insecure:
        yield facts.finding(options.AUTHTOKEN, "insecure", "accepts any certificate; whoever is between reads tokens")
    if not authtoken.memcached_servers and not authtoken.cache:
        yield facts.finding(
            options.AUTHTOKEN,
            "memcached_servers",
            "is not set, so each worker asks Keystone once for each token; memcached would share the answers",
        )
    if conf.auth_password.multi_cloud and not conf.auth_password.allowed_auth_uris:
        yield facts.finding("auth_password", "multi_cloud", "refuses everybody, as allowed_auth_uris is empty")


def _others(facts: _Facts) -> Iterator[Finding]:
    conf = facts.conf
    if conf.profiler.enabled and not facts.setting("profiler", "hmac_keys"):
        yield facts.finding("profiler", "hmac_keys", "is not set, so anybody can trace with the published default key")
    policy_file = facts.setting("oslo_policy", "policy_file")
    if policy_file and not conf.find_file(conf.oslo_policy.policy_file):
        yield facts.finding("oslo_policy", "policy_file", "there is no such file; only the default rules are in force")
    origin = facts.setting("cors", "allowed_origin")
    sections = [name for name in facts.filters("cors") if facts.paste.has_option(name, "oslo_config_project")]
    if origin and sections and not any(facts.paste.has_option(name, "oslo_config_file") for name in sections):
        default = [os.path.realpath(path) for path in files.sources([])]
        if os.path.realpath(origin.file) not in default:
            yield facts.finding(
                "cors",
                "allowed_origin",
                "is not seen by a cors filter with oslo_config_project, which reads only files in the default places;"
                " add oslo_config_file to that section of the paste file",
            )


def _old_names(facts: _Facts) -> Iterator[Finding]:
    for group, opt in options.registered(facts.conf):
        setting = files.find(facts.settings, group, opt)
        if setting is None:
            continue
        where = f"{setting.where}, {validate.label(setting.group, setting.name)}"
        if (files.normal(setting.group), setting.name) != (files.normal(group), opt.dest):
            yield Finding(where, f"this is an old name of {validate.label(group, opt.dest)}; use the present one")
        if opt.deprecated_for_removal:
            reason = f": {' '.join(opt.deprecated_reason.split()).rstrip('.')}" if opt.deprecated_reason else ""
            yield Finding(where, f"will be removed{reason}")


def old_names(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> list[Finding]:
    """Assignments under names that are about to go, which oslo.config reports only before logging is set up."""
    return list(_old_names(_Facts(conf, settings)))


def lint(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> list[Finding]:
    """Advice about a configuration; parts of it that cannot be read give none."""
    facts = _Facts(conf, settings)
    findings: list[Finding] = []
    for part in (_names, _limits, _keystone, _others, _old_names):
        with contextlib.suppress(cfg.Error, ValueError):
            findings.extend(part(facts))
    return findings


Trial = Callable[[cfg.ConfigOpts], Iterable[ConfigurationError] | Any]


def _tried(conf: cfg.ConfigOpts, trials: Iterable[Trial], broken: bool) -> Iterator[ConfigurationError]:
    """What goes wrong beyond the options themselves.

    :param broken: some options cannot be read, which was reported; what stumbles over them is not worth another line
    """
    for trial in trials:
        try:
            found = trial(conf)
            if isinstance(found, Iterator):
                yield from found
        except ConfigurationError as error:
            yield error
        except (cfg.Error, ValueError):
            if not broken:
                raise
        except RuntimeError as error:
            # What heat-api's loader of paste files raises, and ours with it.
            yield ConfigurationError(str(error))


def _all_errors(
    conf: cfg.ConfigOpts, settings: Sequence[files.Setting], build: Iterable[Trial]
) -> Iterator[ConfigurationError]:
    errors = load.problems(conf, settings)
    yield from errors
    trials = [lambda conf: logs.problems(conf, settings), *build]
    yield from _tried(conf, trials, broken=bool(errors))


def check(
    conf: cfg.ConfigOpts,
    argv: Sequence[str],
    out: TextIO,
    *,
    flags: Iterable[Callable[[], Any]] = (),
    build: Iterable[Trial] = (),
    advise: Iterable[Callable[[cfg.ConfigOpts], Iterable[Finding]]] = (),
    development: bool = False,
    adjust: load.Adjust | None = None,
) -> int:
    """Load as a start would, then advise.

    :param argv: as for :func:`heatperf.config.load.load`, as are ``development`` and ``adjust``
    :param out: gets one line per finding and a summary
    :param flags: what a start makes of its flags alone; each may raise ConfigurationError
    :param build: what else a start builds from the configuration (policy, pipeline); each may raise ConfigurationError
        or yield several
    :param advise: more advice about a configuration for which a start would not be refused
    :returns: 2 if a start would be refused, else 0
    :raises heatperf.config.files.WrongArguments: oslo.config does not know the arguments
    """
    names: list[str] = []
    findings: list[Finding] = []
    errors: list[ConfigurationError] = []
    for flag in flags:
        try:
            flag()
        except ConfigurationError as error:
            errors.append(error)
    try:
        names = files.sources(argv, development=development)
        settings = load.parse(conf, argv, development=development, adjust=adjust)
    except ConfigurationError as error:
        errors.append(error)
    else:
        errors.extend(_all_errors(conf, settings, build))
        findings = lint(conf, settings)
        if not errors:
            findings.extend(finding for part in advise for finding in part(conf))
    said = list(dict.fromkeys(str(error) for error in errors))
    out.writelines(f"ERROR: {error}\n" for error in said)
    out.writelines(f"WARNING: {finding}\n" for finding in findings)
    verdict = "a start would be refused" if said else "a start would succeed"
    read = ", ".join(dict.fromkeys(names)) or "no file"
    out.write(f"{read}: {len(said)} error(s), {len(findings)} warning(s); {verdict}\n")
    return 2 if said else 0
