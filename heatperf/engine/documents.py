"""Texts into mappings: templates and environments that reach the engine unparsed (``files``, adopt data).

Comes in: JSON or YAML text. Goes out: plain dictionaries. Raises ValueError with the text clients know, and
errors.heat classes for what is too large. Most documents arrive parsed; the API has done this work then.
"""

import json
from typing import Any

import yaml

from heatperf.engine import limits
from heatperf.errors import heat

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

VERSION_KEYS = ("HeatTemplateFormatVersion", "heat_template_version", "AWSTemplateFormatVersion")

SECTIONS = (
    "parameters",
    "resource_registry",
    "parameter_defaults",
    "encrypted_param_names",
    "event_sinks",
    "parameter_merge_strategies",
)

#: Entries that merge keys may copy in one text; far above what a template within max_template_size needs.
_MAX_MERGED = 100_000

#: Levels of YAML that the loader in C may meet. It recurses on the thread's stack, with nothing to stop it: some 30000
#: levels, "- - - ..." of 60 KB, end the process. Python's own limit is of this order.
_MAX_NESTED = 1000
_OPENERS = ("[", "{", "- ", "? ")


def check_nesting(text: str | bytes) -> None:
    """Refuse YAML that is nested too deeply for the loader in C, before the loader sees it.

    Levels that need no opener need ever more indentation: a megabyte holds about 1400 of them, which is harmless. So
    the events are counted only where there are many openers, or bytes, which may be UTF-16.

    :raises ValueError: it is nested too deeply
    :raises yaml.YAMLError: it is no YAML
    """
    if isinstance(text, str) and sum(map(text.count, _OPENERS)) < _MAX_NESTED:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_NESTED:
                raise ValueError("The YAML is nested too deeply.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class Loader(_BaseLoader):
    """Safe YAML with timestamps left as the text they were: an unquoted 2013-05-23 is a version, not a date."""

    _merged = 0
    _merging = False

    def flatten_mapping(self, node: Any) -> None:
        """Write out merge keys (``<<``), which multiply like aliases but inside the loader.

        The loader calls this for every mapping, and from within for every mapping that a merge key names. Only the
        latter count, before their entries are copied.

        :raises heat.RequestLimitExceeded: merge keys copy more than _MAX_MERGED entries
        """
        if self._merging:
            self._merged += len(node.value)
            if self._merged > _MAX_MERGED:
                raise heat.RequestLimitExceeded(
                    message=f"The merge keys of the YAML stand for more than {_MAX_MERGED} values."
                )
            super().flatten_mapping(node)
            return
        self._merging = True
        super().flatten_mapping(node)
        self._merging = False


def _text(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


for _tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"):
    Loader.add_constructor(_tag, _text)


def _load_yaml(text: str) -> Any:
    """Return what YAML text says, an empty mapping for an empty document.

    :raises yaml.YAMLError: from the pure Python loader, whose text names line and column
    :raises ValueError: it is nested too deeply
    """
    try:
        try:
            check_nesting(text)
            # S506: Loader derives from a safe loader
            value = yaml.load(text, Loader=Loader)  # noqa: S506
        except yaml.YAMLError:
            value = yaml.safe_load(text)
    except RecursionError:
        raise ValueError("The YAML is nested too deeply.") from None
    return {} if value is None else value


def parse_mapping(text: str, bounds: limits.Limits = limits.DEFAULT, origin: str = "[root stack]") -> dict[str, Any]:
    """Return the mapping that JSON or YAML text holds.

    :param origin: name of the text in the message
    :raises ValueError: it is neither, or no mapping
    :raises heat.RequestLimitExceeded: the text is larger than ``bounds.template_size``
    :raises heat.StackValidationFailed: it is nested too deeply, or its aliases make too much of it
    """
    if len(text) > bounds.template_size:
        raise heat.RequestLimitExceeded(
            message=f"Template size ({len(text)} bytes) exceeds maximum allowed size ({bounds.template_size} bytes)."
        )
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("The JSON is nested too deeply.") from None
    except ValueError:
        try:
            value = _load_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"Error parsing template {origin} {error}") from error
    if not isinstance(value, dict):
        raise ValueError("The template is not a JSON object or YAML mapping.")
    limits.check_shape(value, bounds)
    return value


def parse_template(text: str, bounds: limits.Limits = limits.DEFAULT) -> dict[str, Any]:
    """Return the template that ``text`` holds.

    :raises ValueError: it cannot be parsed or names no version; and what parse_mapping raises
    """
    template = parse_mapping(text, bounds)
    if not any(key in template for key in VERSION_KEYS):
        raise ValueError("Template format version not found.")
    return template


def parse_environment(text: str | None, bounds: limits.Limits = limits.DEFAULT) -> dict[str, Any]:
    """Return the environment that YAML text holds.

    :raises ValueError: it cannot be parsed, or has an unknown or an empty section
    :raises heat.RequestLimitExceeded: it is larger than ``bounds.template_size``
    """
    if text is None:
        return {}
    if len(text) > bounds.template_size:
        raise heat.RequestLimitExceeded(
            message=f"Template size ({len(text)} bytes) exceeds maximum allowed size ({bounds.template_size} bytes)."
        )
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error
    if not isinstance(value, dict):
        raise ValueError("The environment is not a valid YAML mapping data type.")
    limits.check_shape(value, bounds, "environment")
    for section, content in value.items():
        if section not in SECTIONS:
            raise ValueError(f'environment has wrong section "{section}"')
        if content is None:
            raise ValueError(f'environment has empty section "{section}"')
    return value
