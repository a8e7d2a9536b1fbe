"""The heat.conf sample: every option of an API server, its help and its default.

In: nothing (the libraries' and our own entry points of oslo.config). Out: text that is the same on every machine, as
defaults taken from the machine carry a sample of their own. A test keeps etc/heatperf/heat.conf.sample current.
"""

import io

import oslo_messaging
from oslo_config import cfg, generator

from heatperf.config.load import set_library_defaults

NAMESPACES = (
    "heatperf",
    "oslo.log",
    "oslo.messaging",
    "oslo.policy",
    "oslo.middleware.cors",
    "oslo.middleware.http_proxy_to_wsgi",
    "oslo.middleware.healthcheck",
    "keystonemiddleware.auth_token",
    "keystonemiddleware.audit",
    "osprofiler",
    "oslo.reports",
    "oslo.concurrency",
)


def heat_conf() -> str:
    """The sample file, all options commented out."""
    set_library_defaults()
    oslo_messaging.set_transport_defaults("heat")
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    arguments = ["--wrap-width", "100"]
    for namespace in NAMESPACES:
        arguments += ["--namespace", namespace]
    # Default files belong to servers; the generator must not read any.
    conf(arguments, default_config_files=[], default_config_dirs=[], use_env=False)
    out = io.StringIO()
    generator.generate(conf, output_file=out)
    # Blank lines of the generator's wrapping end in spaces, which version control tools strip or mark.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
