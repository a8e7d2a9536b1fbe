"""Parse templates and environments, JSON or YAML, into dictionaries.

Small texts are parsed on the worker's loop, larger ones in native threads (see instantiation.py). Raises ValueError
with the text clients see, and errors.heat.RequestLimitExceeded. YAML is read twice where the first, C-based pass fails:
only the pure Python loader says where the mistake is, and clients show that text.
"""

import json
from typing import Any

import yaml

from heatperf.engine.documents import VERSION_KEYS, Loader, check_nesting
from heatperf.errors import heat

_ENVIRONMENT_SECTIONS: dict[str, type] = {
    "parameters": dict,
    "resource_registry": dict,
    "parameter_defaults": dict,
    "encrypted_param_names": list,
    "event_sinks": list,
    "parameter_merge_strategies": dict,
}


def _load_yaml(text: Any, limit: int) -> Any:
    """Return what YAML text says, an empty mapping for an empty document.

    :param limit: most values that aliases may make of it
    :raises yaml.YAMLError: from the loader whose text names line and column
    :raises heat.RequestLimitExceeded: aliases make more of it
    :raises ValueError: it is nested too deeply
    """
    try:
        check_nesting(text)
        # S506: Loader derives from a safe loader
        value = yaml.load(text, Loader=Loader)  # noqa: S506
    except yaml.YAMLError:
        value = yaml.load(text, Loader=yaml.SafeLoader)
    _check_aliases(value, limit)
    return {} if value is None else value


def _check_aliases(value: Any, limit: int) -> None:
    """Refuse what aliases blow up: a few lines of YAML can stand for billions of values once they are written out.

    Counts each shared part once and multiplies, so the check itself costs what the text costs. What contains itself is
    for ``refuse_rings``.

    :raises heat.RequestLimitExceeded: more than ``limit`` values
    """
    sizes: dict[int, int] = {}
    open_parts: set[int] = set()
    stack = [(value, False)]
    while stack:
        part, counted = stack.pop()
        if not isinstance(part, (dict, list, tuple)) or id(part) in sizes:
            continue
        children = part.values() if isinstance(part, dict) else part
        if counted:
            sizes[id(part)] = 1 + sum(sizes.get(id(child), 1) for child in children)
            if sizes[id(part)] > limit:
                raise heat.RequestLimitExceeded(message=f"The aliases of the YAML stand for more than {limit} values.")
            continue
        if id(part) not in open_parts:
            open_parts.add(id(part))
            stack.append((part, True))
            stack.extend((child, False) for child in children)


def refuse_rings(value: Any) -> None:
    """Refuse what contains itself, and so cannot be sent to an engine.

    Upstream notices when it sends it; so this comes after every other check, and only for what is to be sent.

    :raises RecursionError: a part contains itself
    """
    open_parts: set[int] = set()
    done: set[int] = set()
    stack = [(value, False)]
    while stack:
        part, leaving = stack.pop()
        if not isinstance(part, (dict, list, tuple)) or id(part) in done:
            continue
        if leaving:
            done.add(id(part))
            continue
        if id(part) in open_parts:
            raise RecursionError("a part of the YAML contains itself")
        open_parts.add(id(part))
        stack.append((part, True))
        stack.extend((child, False) for child in (part.values() if isinstance(part, dict) else part))


def parse_mapping(text: Any, limit: int) -> dict[str, Any]:
    """Return the mapping that JSON or YAML text holds.

    :param limit: most values that YAML aliases may make of it
    :raises ValueError: it is neither, or no mapping
    """
    try:
        # bytes come from template_url; json.loads would guess UTF-16 and drop a byte order mark, upstream does neither
        value = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except ValueError:
        try:
            value = _load_yaml(text, limit)
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
    template = parse_mapping(text, limit)
    if not any(key in template for key in VERSION_KEYS):
        raise ValueError("Template format version not found.")
    return template


def parse_environment(text: Any, limit: int) -> dict[str, Any]:
    """Return the environment that YAML text holds, checked.

    :param limit: most values that its aliases may make of it
    :raises ValueError: it cannot be parsed, or has unknown or empty sections
    """
    if text is None:
        return {}
    try:
        value = _load_yaml(text, limit)
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
