"""The body that creates, updates, previews or validates a stack, taken apart for the engine.

Raises webob.exc.HTTPBadRequest and errors.heat.RequestLimitExceeded with upstream's texts. The order in which the
parts are read decides which mistake a client is told of; controllers read them in the order of ``engine_arguments``.
"""

from typing import Any

import webob.exc

from heatperf.api import heavy, template_format
from heatperf.api.controller import Services
from heatperf.api.params import bad_request, integer, tags
from heatperf.jsontext import Encoded

#: Keys of the body that are not passed on as extra arguments.
_OWN_KEYS = frozenset(
    (
        "stack_name",
        "template",
        "template_url",
        "parameters",
        "environment",
        "files",
        "environment_files",
        "files_container",
    )
)


class StackBody:
    """One body.

    :param body: the decoded JSON object; template and files may be Encoded
    :param patch: the request changes an existing stack and may leave the template out
    """

    def __init__(self, services: Services, body: Any, patch: bool = False) -> None:
        self._services = services
        self._limit = services.max_template_size
        self._downloaded: bytes | None = None
        self._parsed_template: tuple[Any, Any] | None = None
        self._anchored = False
        self.body = body
        self.patch = patch
        if patch:
            body["existing"] = True

    def stack_name(self) -> Any:
        """Return the new stack's name."""
        if "stack_name" not in self.body:
            raise webob.exc.HTTPBadRequest("No stack name specified")
        return self.body["stack_name"]

    def template(self) -> Any:
        """Return the template: inline, out of adopted data, or downloaded; None for a PATCH without one.

        :returns: plain data; or an Encoded, if the transport takes one
        """
        body = self.body
        data = None
        if "adopt_stack_data" in body:
            try:
                return self._parsed("parse_adopted", body["adopt_stack_data"])
            except (ValueError, KeyError) as error:
                raise webob.exc.HTTPBadRequest(f"Invalid adopt data: {error}") from error
        if "template" in body:
            data = body["template"]
            if isinstance(data, dict):
                template_format.check_size(data, self._limit)
                return data
            if isinstance(data, Encoded):
                heavy.measured(data, self._limit)
                return data
        elif "template_url" in body:
            data = self._download(body["template_url"])
        if data is None:
            if self.patch:
                return None
            raise webob.exc.HTTPBadRequest("No template specified")
        with bad_request("Template not in valid format: "):
            return self._parsed("parse_template", data)

    def _parsed(self, task: str, text: Any) -> Any:
        """Parse ``text``, beside the loop if that would keep other requests waiting."""
        known = self._parsed_template
        if known is not None and known[0] is text:  # a PATCH looks whether there is one first
            return known[1]
        self._look_for_anchors(text)
        value = self._services.heavy.parse(task, text, self._limit)
        if isinstance(value, Encoded) and not self._services.takes_encoded:
            value = value.value()
        self._parsed_template = text, value
        return value

    def _look_for_anchors(self, text: Any) -> None:
        """Without an anchor nothing in YAML can contain itself."""
        self._anchored |= "&" in text if isinstance(text, str) else isinstance(text, bytes) and b"&" in text

    def _download(self, url: Any) -> bytes:
        if self._downloaded is None:
            timeout = self._services.template_fetch_timeout
            try:
                self._downloaded = self._services.fetch_pool.run(self._services.fetch, url, self._limit, timeout)
            except OSError as error:
                raise webob.exc.HTTPBadRequest(f"Could not retrieve template: {error}") from error
        return self._downloaded

    def environment(self) -> dict[str, Any]:
        """Return the environment with the body's parameters merged in.

        Ignored where environment_files are given: then the engine merges those itself.
        """
        environment: dict[str, Any] = {}
        if "environment" in self.body and not self.body.get("environment_files"):
            given = self.body["environment"]
            with bad_request("Environment not in valid format: "):
                if isinstance(given, dict):
                    environment = template_format.check_environment(given)
                else:
                    parsed = self._services.heavy.parse("parse_environment", given, self._limit)
                    environment = parsed.value() if isinstance(parsed, Encoded) else parsed
                    self._look_for_anchors(given)
        template_format.complete_environment(environment)
        environment["parameters"].update(self.body.get("parameters", {}))
        return environment

    def arguments(self, updating: bool) -> dict[str, Any]:
        """Return the rest of the body, the extra arguments of the engine's methods.

        :param updating: the request changes a stack; only then ``converge`` is allowed
        """
        extra = {key: value for key, value in self.body.items() if key not in _OWN_KEYS}
        with bad_request():
            if "timeout_mins" in extra:
                extra["timeout_mins"] = integer("timeout_mins", extra["timeout_mins"])
            if extra.get("tags") is not None:
                extra["tags"] = tags(extra["tags"])
        if not updating and "converge" in extra:
            raise webob.exc.HTTPBadRequest(
                "converge flag only supported in stack update (or update preview) request."
            )
        return extra

    def engine_arguments(self, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the part that create, update and preview share: template, environment, files.

        :raises RecursionError: YAML contains itself
        """
        arguments = {
            "template": self.template(),
            "params": self.environment(),
            "files": self.body.get("files", {}),
            "environment_files": self.body.get("environment_files"),
            "files_container": self.body.get("files_container"),
        }
        if self._anchored:
            template_format.refuse_rings([arguments["template"], arguments["params"]])
        if extra is not None:
            arguments["args"] = extra
        return arguments
