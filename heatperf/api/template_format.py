"""Parse templates and environments, JSON or YAML, into dictionaries.

Small texts are parsed on the worker's loop, larger ones in a helper process (see heavy.py). Raises ValueError with the
text clients see, and errors.heat.RequestLimitExceeded. YAML is read twice where the first, C-based pass fails:
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

#: Characters that the strings of one text may have once its aliases are written out. Beyond it no broker would take the
#: message; and writing it would be the end of whoever tries.
_MOST_TEXT = 64 * 1024 * 1024


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
    if ("&" if isinstance(text, str) else b"&") in text:  # without an anchor there is no alias
        _check_aliases(value, limit)
    return {} if value is None else value


def _check_aliases(value: Any, limit: int) -> None:
    """Refuse what aliases blow up: a few lines of YAML can stand for billions of values once they are written out.

    Counts each shared part once and multiplies, so the check itself costs what the text costs. What contains itself is
    for ``refuse_rings``.

    :raises heat.RequestLimitExceeded: more than ``limit`` values, or _MOST_TEXT characters
    """
    most = max(limit, _MOST_TEXT)
    sizes: dict[int, tuple[int, int]] = {}
    open_parts: set[int] = set()
    stack = [(value, False)]
    while stack:
        part, counted = stack.pop()
        if not isinstance(part, (dict, list, tuple)) or id(part) in sizes:
            continue
        children = part.values() if isinstance(part, dict) else part
        if counted:
            values, text = 1, sum(len(key) for key in part if isinstance(key, str)) if isinstance(part, dict) else 0
            for child in children:
                more = sizes.get(id(child)) or (1, len(child) if isinstance(child, (str, bytes)) else 1)
                values, text = values + more[0], text + more[1]
            sizes[id(part)] = values, text
            if values > limit:
                raise heat.RequestLimitExceeded(message=f"The aliases of the YAML stand for more than {limit} values.")
            if text > most:
                raise heat.RequestLimitExceeded(message=f"The aliases of the YAML stand for more than {most} bytes.")
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
    """Hold a template against max_template_size.

    :raises heat.RequestLimitExceeded: it is larger
    """
    refuse_size(size_of(template), limit)


def size_of(template: Any) -> int:
    """Return a template's size as upstream counts it: the characters of its Python text."""
    return len(template) if isinstance(template, str) else len(str(template))


def refuse_size(size: int, limit: int) -> None:
    """
    :param size: of size_of
    :param limit: max_template_size
    :raises heat.RequestLimitExceeded: it is larger
    """
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


def parse_adopted(text: Any, limit: int) -> Any:
    """Return the template out of the data of an abandoned stack.

    :raises ValueError: there is none; whatever stands in its place passes
    :raises heat.RequestLimitExceeded: it is larger than ``limit``
    """
    data = parse_mapping(text, limit)
    if "template" not in data:
        raise ValueError("'template'")  # the text of upstream's KeyError
    check_size(data["template"], limit)
    return data["template"]


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
