"""``heatperf config``: print a sample, show what is in force, or check what a start would refuse.

In: arguments. Out: text on standard output, an exit code. Raises ConfigurationError, and SystemExit for wrong usage.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from oslo_config import cfg

from heatperf.cli.development import is_meant
from heatperf.cli.flags import bind_of, engine_of, refuse_other_programs
from heatperf.cli.settings import adjust, foreign, load, settings_of, tuned_of, usage_error
from heatperf.config.check import Finding, check
from heatperf.config.files import WrongArguments
from heatperf.errors import ConfigurationError
from heatperf.loops import check as check_loop
from heatperf.server.sizing import workers_for

#: Loggers that say at a start how the engines will be reached: which transport, because of which option, how safely.
_TOLD_AT_START = ("heatperf.pipeline.application", "heatperf.rpc")


def config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """``config sample`` prints a heat.conf with every option, ``show`` what is in force, ``check`` what is wrong."""
    options, rest = parser.parse_known_args(list(argv))
    if options.what == "sample":
        from heatperf.config import sample

        surplus = [word for word in argv if word not in ("sample", "--policy")]
        if surplus:
            parser.error(f"sample takes no {surplus[0]}")
        if options.policy:
            from heatperf.policy.sample import policy_yaml

            print(policy_yaml(), end="")
        else:
            print(sample.heat_conf(), end="")
        return 0
    if options.policy:
        parser.error(f"--policy belongs to sample, not to {options.what}")
    options.dev = is_meant(options, rest, os.environ)
    if options.what == "check":
        return _check(parser, cfg.CONF, options, rest)
    from heatperf.config.show import show

    _load(parser, options, rest)
    found = tuned_of(options)
    show(cfg.CONF, sys.stdout, None if found is None or foreign(found) else found)
    return 0


def _load(parser: argparse.ArgumentParser, options: argparse.Namespace, rest: list[str]) -> None:
    try:
        load(cfg.CONF, options, rest)
    except WrongArguments as error:
        _leave_with_usage(parser, error)


def _leave_with_usage(parser: argparse.ArgumentParser, error: WrongArguments) -> NoReturn:
    print(usage_error(parser, error), file=sys.stderr)
    raise SystemExit(2) from None


def _check(parser: argparse.ArgumentParser, conf: Any, options: argparse.Namespace, rest: list[str]) -> int:
    """Try everything that :func:`serve` does before it listens."""
    # What was built, to be asked for advice without reading the policy files, and complaining of them, again.
    policies: list[Any] = []
    told: list[str] = []

    def advise(_conf: Any) -> Iterator[Finding]:
        yield from (Finding(None, text) for text in dict.fromkeys(told))
        told.clear()
        yield from (Finding(file, text) for policy in policies for file, text in policy.unknown())
        if (found := tuned_of(options)) and (why := foreign(found)):
            yield Finding(None, why)

    try:
        with _heard(told):
            return check(
                conf,
                rest,
                sys.stdout,
                flags=[
                    lambda: refuse_other_programs(rest),
                    *([partial(check_loop, options.loop)] if options.loop else []),
                    lambda: workers_for(options.workers),
                    *(partial(bind_of, options, text) for text in options.bind),
                ],
                build=[lambda conf: settings_of(conf, options), lambda conf: _build_errors(conf, options, policies)],
                advise=[advise],
                development=options.dev,
                adjust=partial(adjust, options=options),
            )
    except WrongArguments as error:
        _leave_with_usage(parser, error)
    finally:
        for text in dict.fromkeys(told):  # there were errors, so nobody has asked for advice
            print(text, file=sys.stderr)


@contextlib.contextmanager
def _heard(told: list[str]) -> Iterator[None]:
    """Meanwhile, warnings of the loggers in _TOLD_AT_START go into ``told``: they are advice, and no log is open."""
    handler = _Listener(told)
    loggers = [logging.getLogger(name) for name in _TOLD_AT_START]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


class _Listener(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(record.getMessage())


def _build_errors(conf: Any, options: argparse.Namespace, policies: list[Any]) -> Iterator[ConfigurationError]:
    """What building the application raises, and what it would raise next if that were corrected.

    :param policies: gets the policy that the application was built with
    """
    from heatperf.pipeline.application import build

    # The embedded engine is a process of its own, which cannot be missing from a configuration.
    for kind in ("rpc", "none") if engine_of(options) == "rpc" else ("none",):
        try:
            policies.append(build(conf, kind, options.dev).parts.policy)
            return
        except RuntimeError as error:  # ConfigurationErrors, and what loaders of paste files raise
            yield error if isinstance(error, ConfigurationError) else ConfigurationError(str(error))
    # The pipeline comes last; without policy files nothing stands before it.
    conf.set_override("policy_file", os.devnull, group="oslo_policy")
    conf.set_override("policy_dirs", [], group="oslo_policy")
    try:
        build(conf, "none", options.dev)
    except RuntimeError as error:
        yield error if isinstance(error, ConfigurationError) else ConfigurationError(str(error))
    finally:
        conf.clear_override("policy_file", group="oslo_policy")
        conf.clear_override("policy_dirs", group="oslo_policy")
