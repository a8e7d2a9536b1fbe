"""Any WSGI filter or application this server does not know: run as it is, in native threads.

It may block and keep its state in thread-locals, so each request gets a thread of the pool "filter" for as long as it
is inside the filter; what the filter calls next runs on the loop again, while that thread waits. The pool's size is
therefore how many requests can be inside such filters at once.
"""

from collections.abc import Callable, Iterable
from typing import Any

from heatperf.pipeline.parts import App, Parts

Answer = tuple[str, list[tuple[str, str]], list[bytes]]


def _complete(app: App, environ: dict[str, Any]) -> Answer:
    """Call a WSGI application and return its whole answer."""
    head: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[[bytes], None]:
        head[:] = [status, headers]
        return written.append

    chunks = app(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = head
    return status, headers, written


class NativeApp:
    """An application that runs in native threads."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, headers, body = self._parts.filter_pool.run(_complete, self._app, environ)
        start_response(status, headers)
        return body


class BackOnLoop:
    """The inner application as a filter in a native thread sees it: its call goes back to the loop.

    :param before: called with the environ in the filter's thread, just before the call goes back
    """

    def __init__(self, app: App, parts: Parts, before: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._app = app
        self._parts = parts
        self._before = before

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._before is not None:
            self._before(environ)
        status, headers, body = self._parts.loop.run_on_loop(_complete, self._app, environ)
        start_response(status, headers)
        return body


def native_filter(
    make: Callable[[App], App], parts: Parts, before: Callable[[dict[str, Any]], None] | None = None
) -> Callable[[App], App]:
    """Return a filter that runs ``make``'s filter in native threads and the application below it on the loop."""
    return lambda app: NativeApp(make(BackOnLoop(app, parts, before)), parts)
