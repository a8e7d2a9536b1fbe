"""Links: absolute URLs of stacks, resources and events.

In: the URL that links are relative to (text, made once per request) and identities as they come over RPC. Out: text,
exactly what WebOb's ``relative_url`` makes of them. Raises TypeError and ValueError for what is no identity.

Runs on the worker's loop; plain data in and out, so that it may run anywhere.
"""

import re
from functools import lru_cache
from typing import Any

import webob

from heatperf.api.identity import Identity

# Text that percent-encoding leaves alone and that means nothing in a path: no empty segment, none that begins with a
# dot. Everything else is left to WebOb, which resolves "." and "..", as browsers would.
_PLAIN = re.compile(r"[\w~-][\w.~-]*(?:/[\w~-][\w.~-]*)*", re.ASCII).fullmatch


class _Application(webob.Request):
    """A request of which nothing is known but the URL of its application."""

    @property
    def application_url(self) -> str:
        return str(self.environ["url"])


def base_url(environ: dict[str, Any]) -> str:
    """Return the URL of the application, without its path and query (WebOb's ``application_url``).

    :raises UnicodeDecodeError: the script name is no UTF-8
    """
    return _base_url(
        environ.get("wsgi.url_scheme"),
        environ.get("HTTP_HOST"),
        environ.get("SERVER_NAME"),
        environ.get("SERVER_PORT"),
        environ.get("SCRIPT_NAME"),
    )


# Clients choose hosts, so the memory is bounded.
@lru_cache(256)
def _base_url(scheme: Any, host: Any, name: Any, port: Any, script: Any) -> str:
    environ = {"wsgi.url_scheme": scheme, "HTTP_HOST": host, "SERVER_NAME": name, "SERVER_PORT": port}
    if script is not None:
        environ["SCRIPT_NAME"] = script
    return str(webob.Request(environ).application_url)


def join(base: str, path: str) -> str:
    """Return the URL of ``path`` in the application whose URL is ``base``, as WebOb does.

    :param path: percent-encoded, without a leading slash
    """
    return str(_Application({"url": base}).relative_url(path, True))


@lru_cache(256)
def prefix(base: str) -> str | None:
    """Return the text that plain paths can be appended to, or None where links have to be resolved one by one.

    That is so where a proxy in front named a scheme that is none ("https, http"), or a host that is none.
    """
    text = base if base.endswith("/") else base + "/"
    if not text.startswith(("http://", "https://")):
        return None
    return text if join(base, "a/b") == f"{text}a/b" else None


def url_of(base: str, identity: Identity) -> str:
    """Return the absolute URL of what ``identity`` names.

    :raises TypeError: part of it is no text
    :raises UnicodeEncodeError: part of it is no UTF-8 (a lone surrogate)
    """
    start = prefix(base)
    if start is not None:
        path = _plain_path(identity.tenant, identity.stack_name, identity.stack_id, identity.path)
        if path is not None:
            return start + path
    return join(base, identity.url_path())


def plain_url(base: str, value: Any) -> str | None:
    """Return the URL of a stack identity that came over RPC, None where more has to be looked at.

    :param value: the identity's four-field mapping
    """
    start = prefix(base)
    if start is None or type(value) is not dict or len(value) != 4:
        return None
    path = _plain_path(value.get("tenant"), value.get("stack_name"), value.get("stack_id"), value.get("path"))
    return None if path is None else start + path


def _plain_path(tenant: Any, stack_name: Any, stack_id: Any, path: Any) -> str | None:
    """Return Identity.url_path() where that is easily said, else None."""
    if type(tenant) is not str or type(stack_name) is not str or type(stack_id) is not str or type(path) is not str:
        return None
    if "/" in tenant or "/" in stack_name or "/" in stack_id:
        return None
    if path and path[0] != "/":
        path = "/" + path
    text = f"{tenant}/stacks/{stack_name}/{stack_id}{path}"
    return text if _PLAIN(text) else None
