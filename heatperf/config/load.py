"""From files, environment and command line to a parsed, registered and validated configuration.

In: a ConfigOpts (the process uses ``cfg.CONF``: oslo.messaging 18 reads that one whatever it gets) and arguments.
Out: the ConfigOpts, filled. Raises ConfigurationError naming file, line and option; WrongArguments (a SystemExit) for
what oslo.config's parser refuses. Runs in the zygote before any fork. Logging is registered here, the caller sets
it up.
"""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence

from keystoneauth1 import exceptions as ks_exceptions
from keystoneauth1 import loading
from oslo_config import cfg
from oslo_middleware import cors

import heatperf
from heatperf.config import files, messaging, options, validate
from heatperf.config.paths import packaged_file
from heatperf.errors import ConfigurationError

# What other flags change in a configuration that is parsed but not yet validated.
Adjust = Callable[[cfg.ConfigOpts], None]


class _OldNames(logging.Filter):
    """Holds back what oslo.config says of old names before logging is set up; ``check.old_names`` finds them again."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Deprecated: ")


@contextlib.contextmanager
def _quiet_about_old_names() -> Iterator[None]:
    logger = logging.getLogger(cfg.__name__)
    quiet = _OldNames()
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)


def set_library_defaults() -> None:
    """Give the libraries' options the defaults that Heat has for them. Changes the libraries; may be called again."""
    cfg.set_defaults(messaging.OPTIONS[None], control_exchange="heat")
    cors.set_defaults(
        allow_headers=[
            "X-Auth-Token",
            "X-Identity-Status",
            "X-Roles",
            "X-Service-Catalog",
            "X-User-Id",
            "X-Tenant-Id",
            "X-OpenStack-Request-ID",
        ],
        expose_headers=["X-Auth-Token", "X-Subject-Token", "X-Service-Token", "X-OpenStack-Request-ID"],
        allow_methods=["GET", "PUT", "POST", "DELETE", "PATCH"],
    )


def load(
    conf: cfg.ConfigOpts, argv: Sequence[str], *, development: bool = False, adjust: Adjust | None = None
) -> list[files.Setting]:
    """Parse and validate everything.

    :param conf: filled in place; what it held before is dropped
    :param argv: --config-file, --config-dir and oslo.log's flags; nothing else is known here
    :param development: read no file but those in ``argv`` and no OS_* variable, take the paste file of the package and
        no policy file
    :param adjust: sets what other flags of the command line override, before anything is validated
    :returns: the assignments of all files, in order
    :raises ConfigurationError: a file, option or value is wrong
    :raises heatperf.config.files.WrongArguments: oslo.config does not know the arguments
    :raises SystemExit: 0 after --help or --version
    """
    settings = parse(conf, argv, development=development, adjust=adjust)
    for problem in problems(conf, settings):
        raise problem
    return settings


def problems(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> list[ConfigurationError]:
    """Everything for which the options themselves refuse a start. Reads every option once."""
    with _quiet_about_old_names():
        return list(validate.problems(conf, settings))


def parse(
    conf: cfg.ConfigOpts, argv: Sequence[str], *, development: bool = False, adjust: Adjust | None = None
) -> list[files.Setting]:
    """Parse and register everything, as :func:`load`, but leave most values unread.

    :returns: the assignments of all files, in order
    """
    with _quiet_about_old_names():
        return _parse_all(conf, argv, development, adjust)


def _parse_all(
    conf: cfg.ConfigOpts, argv: Sequence[str], development: bool, adjust: Adjust | None
) -> list[files.Setting]:
    set_library_defaults()
    conf.reset()
    # Keystone plugins declare required options; a second load would miss them before it knows that they still apply.
    for group, opt in options.registered(conf):
        if opt.required:
            conf.unregister_opt(opt, group=group)
    options.register_logging(conf)
    settings = files.scan(files.sources(argv, development=development))
    _parse(conf, argv, settings, development)
    options.register(conf)
    if development:
        _development_defaults(conf)
    # The stock default is argv[0], which under a process manager is the same word for several services of one host;
    # with use_queue_manager they would then read each other's replies.
    conf.set_default("processname", files.PROG, group="oslo_messaging_rabbit")
    # oslo.log would name the file after argv[0]: heatperf.log, or __main__.log.
    with contextlib.suppress(cfg.Error):
        if conf.log_dir:
            conf.set_default("log_file", f"{files.PROG}.log")
    if adjust is not None:
        adjust(conf)
    _register_keystone_plugin(conf, settings)
    return settings


def _parse(conf: cfg.ConfigOpts, argv: Sequence[str], settings: Sequence[files.Setting], development: bool) -> None:
    nothing: list[str] | None = [] if development else None
    # Without a project, relative names in a file that was named are not looked for in /etc/heat and ~/.heat either.
    project = None if development else files.PROJECT
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            conf(
                list(argv),
                project=project,
                prog=files.PROG,
                version=heatperf.__version__,
                default_config_files=nothing,
                default_config_dirs=nothing,
                use_env=not development,
            )
    except SystemExit as exit_request:
        # oslo.config leaves with 1, and without the place, where a file gives a command line option a wrong value.
        if exit_request.code == 1:
            for problem in validate.flags(conf, settings):
                raise problem from None
        if exit_request.code:
            raise files.WrongArguments(complaint.getvalue().rpartition(" error: ")[2].strip()) from None
        raise SystemExit(0) from None
    except cfg.Error as error:
        for problem in validate.flags(conf, settings, getattr(error, "opt_name", None)):
            raise problem from None
        raise ConfigurationError(str(error)) from None


def _development_defaults(conf: cfg.ConfigOpts) -> None:
    """Nothing under /etc or the home directory may leak in through the search for relative names."""
    conf.set_default("api_paste_config", packaged_file("api-paste.ini"), group="paste_deploy")
    conf.set_default("policy_file", os.devnull, group="oslo_policy")
    conf.set_default("policy_dirs", [], group="oslo_policy")


def _register_keystone_plugin(conf: cfg.ConfigOpts, settings: Sequence[files.Setting]) -> None:
    """Register the options of the auth plugin that [keystone_authtoken] (or its auth_section) names."""
    loading.register_auth_conf_options(conf, options.AUTHTOKEN)
    group = conf[options.AUTHTOKEN].auth_section or options.AUTHTOKEN
    name = conf[group].auth_type or "password"
    try:
        opts = loading.get_auth_plugin_conf_options(name)
    except ks_exceptions.NoMatchingPlugin:
        if conf.paste_deploy.flavor in validate.WITHOUT_AUTHTOKEN:
            return
        auth_type = next(opt for known, opt in options.registered(conf) if known == group and opt.dest == "auth_type")
        raise validate.refusal(
            settings,
            group,
            auth_type,
            f"there is no Keystone authentication plugin {name!r}",
            "use one of " + ", ".join(sorted(loading.get_available_plugin_names())),
        ) from None
    conf.register_opts(opts, group=group)
