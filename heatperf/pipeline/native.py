"""Any WSGI filter or application this server does not know: run as it is, in native threads.

It may block and keep its state in thread-locals, so each request gets a thread of the pool "filter" for as long as it
is inside the filter; what the filter calls next runs on the loop again, while that thread waits. The pool's size is
therefore how many requests can be inside the filter at once. Each filter has a pool of its own: with a common one,
requests inside an outer filter could hold all threads and wait for ever to enter an inner one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from heatperf.context import RequestContext, context_of, part
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
    if not head:
        raise RuntimeError("the application has not called start_response")
    status, headers = head
    return status, headers, written


def _adopt_context(environ: dict[str, Any]) -> None:
    """Make the request's context current here too, where a station below has set it in its own thread or greenlet."""
    context = context_of(environ)
    if isinstance(context, RequestContext):
        context.update_store()


class NativeApp:
    """An application that runs in native threads.

    :param name: of the section in the paste file, for the pool
    """

    def __init__(self, app: App, parts: Parts, name: str) -> None:
        self._app = app
        self._name = name
        self._settings = parts.conf.heatperf
        self.pool: Any = None
        parts.startables.append(self)

    def start(self, loop: Any) -> None:
        """Make the pool: called in the worker, after the fork."""
        self.pool = loop.pool(f"filter {self._name}", self._settings.filter_concurrency, self._settings.filter_queue)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        part(environ)  # it may change the identity headers, and what was said about the caller with them
        try:
            status, headers, body = self.pool.run(_complete, self._app, environ)
        finally:
            _adopt_context(environ)
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
        try:
            status, headers, body = self._parts.loop.run_on_loop(_complete, self._app, environ)
        finally:
            part(environ)  # the filter may also write into what authentication below it has left
            _adopt_context(environ)
        start_response(status, headers)
        return body


def native_filter(
    make: Callable[[App], App], parts: Parts, name: str, before: Callable[[dict[str, Any]], None] | None = None
) -> Callable[[App], App]:
    """Return a filter that runs ``make``'s filter in native threads and the application below it on the loop."""
    return lambda app: NativeApp(make(BackOnLoop(app, parts, before)), parts, name)
