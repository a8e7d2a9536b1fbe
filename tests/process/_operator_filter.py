"""A filter as an operator might write one: copied beside heat.conf, and put outermost in its api-paste.ini.

Comes in: any request. Goes out: the answer with the pid of the worker and an option's value added, later if the query
says ``delay=SECONDS``. Raises ValueError for a value that is no number. Heatperf does not know it, so it runs in
native threads.
"""

import os
import time
from urllib.parse import parse_qs


def filter_factory(_global_conf, value="0"):
    if not value.isdigit():
        raise ValueError(f"value = {value} is not a number")

    def wrap(app):
        def probe(environ, start_response):
            def start(status, headers, exc_info=None):
                added = [("X-Worker", str(os.getpid())), ("X-Generation", value)]
                return start_response(status, [*headers, *added], exc_info)

            delay = parse_qs(environ.get("QUERY_STRING", "")).get("delay")
            if delay:
                time.sleep(float(delay[0]))
            return app(environ, start)

        return probe

    return wrap
