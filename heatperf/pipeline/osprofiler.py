"""Station osprofiler: stock while [profiler] is on; otherwise it has nothing to do.

When it is on, tracing keeps its state in a thread-local and sends to its collector by blocking calls, so it runs in a
native thread; what the engine needs to continue the trace is put into the request's context on the way in. When it is
off, so is the middleware in each worker (application.Tracing), whatever its paste section says.
"""

from typing import Any

from osprofiler import profiler, web

from heatperf.context import context_of
from heatperf.pipeline.heads import passing
from heatperf.pipeline.native import native_filter
from heatperf.pipeline.parts import Filter, current


def _carry_trace(environ: dict[str, Any]) -> None:
    """Copy this thread's trace into the request's context."""
    trace = profiler.get()
    context = context_of(environ)
    if trace is not None and context is not None:
        context.trace_info = {
            "hmac_key": trace.hmac_key,
            "base_id": trace.get_base_id(),
            "parent_id": trace.get_id(),
        }


def factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``; while tracing is off, there is none."""
    parts = current()
    stock = stock_factory(global_conf, **local_conf)
    return stock if parts.conf.profiler.enabled else lambda app: passing(app, stock(app), parts)


def stock_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build osprofiler's filter, in native threads while tracing is on."""
    parts = current()
    make = web.WsgiMiddleware.factory(global_conf, **local_conf)
    return native_filter(make, parts, "osprofiler", before=_carry_trace) if parts.conf.profiler.enabled else make
