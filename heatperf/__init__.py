"""heatperf: a fast, preforking server for the OpenStack Heat v1 REST API."""

__version__ = "0.1.0"
