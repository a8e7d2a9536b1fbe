"""Station cors: stock, except that development mode keeps it from the files of the search path.

With ``oslo_config_project`` in its section (and oslo.middleware insists on that) the stock filter parses the default
configuration files by itself, whatever files the server was started with. Upstream behaves so, and so does this server;
only development mode, which reads no file that is not named, hands it the server's own configuration.
"""

from oslo_middleware import cors

from heatperf.pipeline.parts import Filter, current


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Filter:
    """Build the filter for ``paste.filter_factory``."""
    parts = current()
    if parts.development:
        return lambda app: cors.CORS(app, parts.conf)
    return cors.CORS.factory(global_conf, **local_conf)
