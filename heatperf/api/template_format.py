"""Parse templates and environments, JSON or YAML, into dictionaries.

Runs on the worker's loop (large ones will move to a helper process). Raises ValueError with the text clients see, and
errors.heat.RequestLimitExceeded. YAML is read twice where the first, C-based pass fails: only the pure Python loader
says where the mistake is, and clients show that text.
"""

import json
from typing import Any

import yaml

from heatperf.errors import heat

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):
    """Safe YAML with timestamps left as the text they were: an unquoted 2013-05-23 is a version, not a date."""


def _text(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


for _tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"):
    _Loader.add_constructor(_tag, _text)

VERSION_KEYS = ("HeatTemplateFormatVersion", "heat_template_version", "AWSTemplateFormatVersion")

_ENVIRONMENT_SECTIONS: dict[str, type] = {
    "parameters": dict,
    "resource_registry": dict,
    "parameter_defaults": dict,
    "encrypted_param_names": list,
    "event_sinks": list,
    "parameter_merge_strategies": dict,
}


def _load_yaml(text: Any) -> Any:
    """Return what YAML text says, None for an empty document.

    :raises yaml.YAMLError: from the loader whose text names line and column
    """
    try:
        # S506: _Loader derives from a safe loader
        value = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError:
        return yaml.load(text, Loader=yaml.SafeLoader)
    return {} if value is None else value


def parse_mapping(text: Any) -> dict[str, Any]:
    """Return the mapping that JSON or YAML text holds.

    :raises ValueError: it is neither, or no mapping
    """
    try:
        # bytes come from template_url; json.loads would guess UTF-16 and drop a byte order mark, upstream does neither
        value = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except ValueError:
        try:
            value = _load_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"Error parsing template [root stack] {error}") from error
    if not isinstance(value, dict):
        raise ValueError("The template is not a JSON object or YAML mapping.")
    return value


def check_size(template: Any, limit: int) -> None:
    """Hold a template against max_template_size (bytes, counted as characters of its Python text, as upstream does).

    :raises heat.RequestLimitExceeded: it is larger
    """
    size = len(str(template))
    if size > limit:
        raise heat.RequestLimitExceeded(
            message=f"Template size ({size} bytes) exceeds maximum allowed size ({limit} bytes)."
        )


def parse_template(text: Any, limit: int) -> dict[str, Any]:
    """Return the template that ``text`` holds.

    :raises ValueError: it cannot be parsed, or names no template version
    :raises heat.RequestLimitExceeded: it is larger than ``limit``
    """
    check_size(text, limit)
    template = parse_mapping(text)
    if not any(key in template for key in VERSION_KEYS):
        raise ValueError("Template format version not found.")
    return template


def parse_environment(text: Any) -> dict[str, Any]:
    """Return the environment that YAML text holds, checked.

    :raises ValueError: it cannot be parsed, or has unknown or empty sections
    """
    if text is None:
        return {}
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error
    if not isinstance(value, dict):
        raise ValueError("The environment is not a valid YAML mapping data type.")
    return check_environment(value)


def check_environment(environment: dict[str, Any]) -> dict[str, Any]:
    """Return ``environment`` if it has only known sections and none is null.

    :raises ValueError: naming the section
    """
    for section, value in environment.items():
        if section not in _ENVIRONMENT_SECTIONS:
            raise ValueError(f'environment has wrong section "{section}"')
        if value is None:
            raise ValueError(f'environment has empty section "{section}"')
    return environment


def complete_environment(environment: dict[str, Any]) -> None:
    """Add the sections an engine expects and ``environment`` lacks."""
    for section, kind in _ENVIRONMENT_SECTIONS.items():
        if section != "parameter_merge_strategies":
            environment.setdefault(section, kind())
