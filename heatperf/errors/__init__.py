"""Exceptions of the server itself, as opposed to the API's answers (those are in errors/heat.py).

Ground floor: importable from everywhere, imports nothing of heatperf. Raised in the supervisor and in workers alike.
"""


class HeatperfError(Exception):
    """Base of everything this project raises on purpose."""


class ConfigurationError(HeatperfError, RuntimeError):
    """The server cannot start as configured. A RuntimeError too, which is what upstream's loader raises.

    :param message: what is wrong, in one sentence
    :param remedy: what to do about it, or None where the message says it
    :param file: configuration file (with ``:line`` where known) that holds the mistake
    :param option: option in the form ``[group] name``

    The command line prints it as ``ERROR: ...`` and exits with code 2.
    """

    def __init__(
        self, message: str, remedy: str | None = None, file: str | None = None, option: str | None = None
    ) -> None:
        self.message = message
        self.remedy = remedy
        self.file = file
        self.option = option
        where = ", ".join(part for part in (file, option) if part)
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text} ({remedy})" if remedy else text)


class Overloaded(HeatperfError):
    """A bounded queue is full; the HTTP layer answers 503 with Retry-After.

    :param reason: which queue, for the log and the client
    :param retry_after: seconds after which a client may try again
    """

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeadlineExceeded(HeatperfError):
    """An offloaded call did not finish within its deadline; its native thread is left to finish alone.

    :param what: which call, for the log
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} did not finish in time")


class BodyTooLarge(HeatperfError):
    """The request's body is larger than the server buffers, so it was not read; the HTTP layer answers 413.

    :param length: declared Content-Length, bytes; None for a chunked body
    """

    def __init__(self, length: int | None) -> None:
        super().__init__("request body too large")
        self.length = length
