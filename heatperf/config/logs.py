"""Logging: oslo.log as configured, with every record carrying the context of its own request.

Runs in the supervisor before the fork; workers inherit the handlers.
"""

import logging
from collections.abc import Iterator
from typing import Any

from oslo_log import log as oslo_log

from heatperf.context import ContextLogFilter
from heatperf.errors import ConfigurationError


def _handlers() -> Iterator[logging.Handler]:
    seen: set[int] = set()
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if id(handler) not in seen:
                seen.add(id(handler))
                yield handler


def setup(conf: Any) -> None:
    """Set up oslo.log for ``conf`` and put the request context on every handler.

    :raises ConfigurationError: the log file cannot be written, or log_config_append names a file that cannot be used
    """
    try:
        oslo_log.setup(conf, conf.prog)
    except oslo_log.LogConfigError as error:
        raise ConfigurationError(
            str(error), "correct the file or the option", option="[DEFAULT] log_config_append"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the log cannot be opened: {error}", "correct log_file, log_dir or their permissions", option="[DEFAULT]"
        ) from error
    context_filter = ContextLogFilter()
    for handler in _handlers():
        handler.addFilter(context_filter)
