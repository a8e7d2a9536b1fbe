"""Functions that make or take apart texts.

Comes in: parsed arguments. Goes out: texts, lists of texts. Raises what base.py says; results are charged to the
budget of the running call before they are built, since a few lines of template can ask for gigabytes.
"""

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib import parse as urls

from heatperf.engine import limits
from heatperf.engine.functions.base import Function, Scope, is_list, resolve
from heatperf.errors import heat

_SCALARS = (str, int, float, bool)


def replaced(text: str, old: str, new: str) -> str:
    """Return ``text`` with ``old`` replaced, charged to the budget before it is built.

    :raises heat.StackValidationFailed: the budget is used up
    """
    count = text.count(old)
    if not count:
        return text
    limits.budget().spend(len(text) + count * max(0, len(new) - len(old)))
    return text.replace(old, new)


def unused_characters(used: Collection[str]) -> Iterator[str]:
    """Yield characters that are not among ``used``, those for private use first.

    :raises heat.StackValidationFailed: there are no more
    """
    for code in itertools.chain(range(0xE000, sys.maxunicode + 1), range(0xE000)):
        if chr(code) not in used:
            yield chr(code)
    raise heat.StackValidationFailed(message="The template has too many placeholders.")


class Replace(Function):
    """``str_replace: {template: ..., params: {...}}``; longer placeholders go first, then those earlier in order."""

    description = "Returns a text with placeholders replaced."
    #: whether every placeholder must occur
    strict = False
    #: whether a placeholder may stand for nothing
    empty_allowed = True

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        self._params, self._template = self._parse()
        if not isinstance(self._params, (Mapping, Function)):
            raise TypeError(f'"{name}" parameters must be a mapping')

    def _parse(self) -> tuple[Any, Any]:
        if not isinstance(self.arguments, Mapping):
            raise TypeError(f'Arguments to "{self.name}" must be a map')
        try:
            return self.arguments["params"], self.arguments["template"]
        except KeyError:
            pad = " " * 14
            example = (
                f"{self.name}:\n{pad}template: This is var1 template var2\n{pad}params:\n{pad}  var1: a\n"
                f"{pad}  var2: string"
            )
            raise KeyError(f'"{self.name}" syntax should be {example}') from None

    def replacement(self, value: Any, param: str) -> str:
        """Return the text that ``value`` becomes.

        :param param: placeholder, for the message
        """
        if value is None:
            return ""
        if not isinstance(value, _SCALARS):
            raise TypeError(f'"{self.name}" params must be strings or numbers, param {param} is not valid')
        return str(value)

    def result(self) -> Any:
        template = resolve(self._template)
        params = resolve(self._params)
        if not isinstance(template, str):
            raise TypeError(f'"{self.name}" template must be a string')
        if not isinstance(params, Mapping):
            raise TypeError(f'"{self.name}" params must be a map')
        for key in params:
            if not isinstance(key, str):
                raise TypeError(f'"{self.name}" param placeholders must be strings')
        return self._substitute(template, params)

    def _substitute(self, template: str, params: Mapping[str, Any]) -> str:
        meter = limits.budget()
        # Each placeholder that occurs becomes one character that neither the template nor a placeholder has, so that
        # what was put in is never searched again; a last pass writes the values. All loops run inside str methods.
        marks = unused_characters(set(template).union(*params))
        values: dict[int, str] = {}
        missing = []
        text = template
        meter.spend(len(template))
        for key in sorted(sorted(params), key=len, reverse=True):
            new = self.replacement(params[key], key)
            if not key:
                raise ValueError("empty separator")
            # searching costs too: a map with thousands of placeholders times a long template
            meter.spend(len(text) // 64)
            count = text.count(key)
            if not count:
                missing.append(key)
                continue
            meter.spend(count * len(new))
            mark = next(marks)
            values[ord(mark)] = new
            text = text.replace(key, mark)
        if self.strict and missing:
            raise ValueError(f"The following params were not found in the template: {','.join(missing)}")
        return text.translate(values)


class ReplaceJson(Replace):
    """``str_replace`` that writes lists and maps as JSON."""

    def replacement(self, value: Any, param: str) -> str:
        if value is None:
            if not self.empty_allowed:
                self._refuse_empty(param)
            return ""
        if isinstance(value, _SCALARS):
            text = str(value)
            if not text and not self.empty_allowed:
                self._refuse_empty(param)
            return text
        if not isinstance(value, (Mapping, Sequence)):
            raise TypeError(f'"{self.name}" params must be strings, numbers, list or map.')
        if not value and not self.empty_allowed:
            self._refuse_empty(param)
        return json.dumps(value, sort_keys=True)

    def _refuse_empty(self, param: str) -> None:
        raise ValueError(
            f"{self.name} has an undefined or empty value for param {param}, must be a defined non-empty value"
        )


class ReplaceJsonStrict(ReplaceJson):
    """``str_replace_strict``."""

    description = "Returns a text with placeholders replaced; each placeholder must occur in it."
    strict = True


class ReplaceJsonVeryStrict(ReplaceJsonStrict):
    """``str_replace_vstrict``."""

    description = "Returns a text with placeholders replaced; each must occur in it and have a value."
    empty_allowed = False


class CfnReplace(Replace):
    """``Fn::Replace: [{...}, text]`` of the first version of HOT."""

    def _parse(self) -> tuple[Any, Any]:
        try:
            if isinstance(self.arguments, (str, Mapping)):
                raise TypeError
            params, template = self.arguments
        except (TypeError, ValueError) as error:
            example = f'{{"{self.name}": [ {{"$var1": "foo", "%var2%": "bar"}}, "$var1 is %var2%"]}}'
            raise type(error)(f'Incorrect arguments to "{self.name}" should be: {example}') from None
        return params, template


class Join(Function):
    """``list_join: [delimiter, [text, ...]]``."""

    description = "Returns the texts of a list joined into one."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        usage = f'Incorrect arguments to "{name}" should be: "{name}" : [ " ", [ "str1", "str2"]]'
        if not isinstance(arguments, list):
            raise TypeError(usage)
        if len(arguments) != 2:
            raise ValueError(usage)
        self._delimiter, self._texts = arguments

    def result(self) -> Any:
        texts = resolve(self._texts)
        if texts is None:
            texts = []
        if not is_list(texts):
            raise TypeError(f'"{self.name}" must operate on a list')
        return self.join(texts)

    def join(self, items: Sequence[Any]) -> str:
        """Return the items with the delimiter between them, charged to the budget before it is built."""
        delimiter = resolve(self._delimiter)
        if not isinstance(delimiter, str):
            raise TypeError(f'"{self.name}" delimiter must be a string')
        texts = [self.text(item) for item in items]
        limits.budget().spend(sum(map(len, texts)) + len(delimiter) * len(texts))
        return delimiter.join(texts)

    def text(self, item: Any) -> str:
        """Return what an item of the list becomes."""
        if item is None:
            return ""
        if not isinstance(item, str):
            raise TypeError(f"Items to join must be strings not {repr(item)[:200]}")
        return item


class JoinMultiple(Join):
    """``list_join: [delimiter, [...], [...]]``, with lists and maps written as JSON."""

    description = "Returns the items of one or more lists joined into one text."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        Function.__init__(self, scope, name, arguments)
        usage = f'Incorrect arguments to "{name}" should be: "{name}" : [ " ", [ "str1", "str2"] ...]'
        if not isinstance(arguments, list):
            raise TypeError(usage)
        if len(arguments) < 2:
            raise ValueError(usage)
        self._delimiter, *self._lists = arguments

    def result(self) -> Any:
        items: list[Any] = []
        for texts in resolve(self._lists):
            if not texts:
                continue
            if not is_list(texts):
                raise TypeError(f'"{self.name}" must operate on a list')
            items += texts
        return self.join(items)

    def text(self, item: Any) -> str:
        if item is None:
            return ""
        if isinstance(item, str):
            return item
        if not isinstance(item, (Mapping, Sequence)):
            raise TypeError(f"Items to join must be string, map or list not {repr(item)[:200]}")
        return json.dumps(item, sort_keys=True)


class StrSplit(Function):
    """``str_split: [delimiter, text]`` or with an index as third argument."""

    description = "Returns the parts of a text as a list, or one of them."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        self._form = f'"{name}" should be: "{name}" : [ ",", "apples,pears", <index>]'
        if isinstance(arguments, (str, Mapping)):
            raise TypeError(f"Incorrect arguments to {self._form}")

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not isinstance(arguments, list) or len(arguments) < 2:
            raise ValueError(f"Incorrect arguments to {self._form}")
        delimiter, text, *rest = arguments
        if text is None:
            return None
        if not isinstance(text, str):
            raise ValueError(f"Incorrect arguments to {self._form}")
        parts = text.split(delimiter)
        limits.budget().spend(len(text) + limits.ENTRY * len(parts))
        if not rest:
            return parts
        try:
            index = int(rest[0])
        except ValueError:
            raise ValueError(f"Incorrect index to {self._form}") from None
        try:
            return parts[index]
        except IndexError:
            raise ValueError(f'Incorrect index to "{self.name}" should be between 0 and {len(parts) - 1}') from None


class CfnSplit(Function):
    """``Fn::Split: [delimiter, text]`` of the first version of HOT."""

    description = "Returns the parts of a text as a list."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        usage = f'Incorrect arguments to "{name}" should be: "{name}" : [ ",", "str1,str2"]]'
        if isinstance(arguments, (str, Mapping)):
            raise TypeError(usage)
        try:
            self._delimiter, self._text = arguments
        except ValueError:
            raise ValueError(usage) from None

    def result(self) -> Any:
        text = resolve(self._text)
        if not isinstance(self._delimiter, str):
            raise TypeError(f"Delimiter for {self.name} must be string")
        if not isinstance(text, str):
            raise TypeError(f"String to split must be string; got {type(text)}")
        parts = text.split(self._delimiter)
        limits.budget().spend(len(text) + limits.ENTRY * len(parts))
        return parts


class Base64(Function):
    """``Fn::Base64``, which leaves the text as it is: Heat takes user data unencoded."""

    description = "Returns its argument."

    def result(self) -> Any:
        text = resolve(self.arguments)
        if not isinstance(text, str):
            raise TypeError(f'"{self.name}" argument must be a string')
        return text


class Digest(Function):
    """``digest: [algorithm, text]``."""

    description = "Returns the digest of a text as hexadecimal digits."

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
            raise TypeError(f'Argument to function "{self.name}" must be a list of strings')
        if len(arguments) != 2:
            raise ValueError(f'Function "{self.name}" usage: ["<algorithm>", "<value>"]')
        algorithm, text = arguments
        if algorithm.lower() not in hashlib.algorithms_available:
            names = ", ".join(repr(name) for name in sorted(hashlib.algorithms_available))
            raise ValueError(f"Algorithm must be one of {{{names}}}")
        # latin-1 as upstream: a text with other characters is a UnicodeEncodeError, which is a ValueError
        return hashlib.new(algorithm, text.encode("latin-1"), usedforsecurity=False).hexdigest()


class MakeURL(Function):
    """``make_url: {scheme: ..., host: ..., ...}``."""

    description = "Returns a URL made of its parts, escaped as needed."
    _PARTS = ("scheme", "username", "password", "host", "port", "path", "query", "fragment")

    def validate(self) -> None:
        super().validate()
        if not isinstance(self.arguments, Mapping):
            raise TypeError(f'The arguments to "{self.name}" must be a map')
        unknown = [str(key) for key in self.arguments if key not in self._PARTS]
        if unknown:
            raise ValueError(f'Invalid arguments to "{self.name}": {", ".join(unknown)}')
        self._check(self.arguments)

    def _check(self, arguments: Mapping[str, Any]) -> None:
        for part in self._PARTS:
            if part not in arguments or isinstance(arguments[part], Function):
                continue
            value = arguments[part]
            if part == "port":
                self._check_port(value, arguments)
            elif part == "query":
                if not isinstance(value, Mapping):
                    raise TypeError(f'The "{part}" argument to "{self.name}" must be a map')
            elif not isinstance(value, str):
                raise TypeError(f'The "{part}" argument to "{self.name}" must be a string')

    def _check_port(self, port: Any, arguments: Mapping[str, Any]) -> None:
        try:
            number = int(port)
        except ValueError:
            raise ValueError(f'Invalid URL port "{port}" for {self.name} called with {arguments}') from None
        if not 0 < number <= 65535:
            raise ValueError(f"Invalid URL port {number}, must be in range 1-65535")

    def result(self) -> Any:
        arguments = resolve(self.arguments)
        if not isinstance(arguments, Mapping):
            raise TypeError(f'The arguments to "{self.name}" must be a map')
        self._check(arguments)
        scheme = arguments.get("scheme", "")
        if ":" in scheme:
            raise ValueError("URL \"scheme\" should not contain ':'")
        # escaping makes at most three characters of one
        limits.budget().spend(3 * limits.weigh(arguments, limits.budget().limits.resolved))
        path = urls.quote(arguments.get("path", ""))
        query = urls.urlencode(arguments.get("query", {})).replace("%2F", "/")
        fragment = urls.quote(arguments.get("fragment", ""))
        return urls.urlunsplit((scheme, self._authority(arguments), path, query, fragment))

    @staticmethod
    def _authority(arguments: Mapping[str, Any]) -> str:
        username = urls.quote(arguments.get("username", ""), safe="")
        password = urls.quote(arguments.get("password", ""), safe="")
        login = username + (f":{password}" if password else "")
        host = arguments.get("host", "")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        host = urls.quote(host, safe=":")
        if ":" in host:
            host = f"[{host}]"
        port = arguments.get("port", "")
        return f"{login}@" * bool(login) + host + (f":{port}" if port else "")


class Yaql(Function):
    """``yaql: {expression: ..., data: {...}}``: arguments are checked, but there is no interpreter to run it.

    The YAQL library is not a dependency of this server, so a template that needs it is refused when it is validated.
    """

    description = "Evaluates a YAQL expression. Not available in this engine."

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        if not isinstance(arguments, Mapping):
            raise TypeError(f'Arguments to "{name}" must be a map.')
        if "expression" not in arguments or set(arguments) - {"expression", "data"}:
            pad = " " * 14
            example = f"{name}:\n{pad}expression: $.data.var1.sum()\n{pad}data:\n{pad}  var1: [3, 2, 1]"
            raise KeyError(f'"{name}" syntax should be {example}')

    def validate(self) -> None:
        super().validate()
        expression = self.arguments["expression"]
        if not isinstance(expression, (str, Function)):
            raise TypeError(f'The "expression" argument to {self.name} must contain a string.')
        self.result()

    def result(self) -> Any:
        raise heat.NotSupported(feature=f'The function "{self.name}"')


class MemberListToMap(Function):
    """``Fn::MemberListToMap`` of the first version of HOT: [key name, value name, [".member.0.Name=a", ...]]."""

    description = "Returns a map made of a list of numbered names and values."
    _MEMBER = re.compile(r"\.member\.([0-9]{1,9})\.(.*)")

    def __init__(self, scope: Scope, name: str, arguments: Any) -> None:
        super().__init__(scope, name, arguments)
        try:
            self._key, self._value, self._members = arguments
        except ValueError:
            example = "{'Fn::MemberListToMap': ['Name', 'Value', ['.member.0.Name=key', '.member.0.Value=door']]}"
            raise TypeError(f'Wrong Arguments try: "{example}"') from None
        if not isinstance(self._key, str):
            raise TypeError(f"{name} Key Name must be a string")
        if not isinstance(self._value, str):
            raise TypeError(f"{name} Value Name must be a string")

    def result(self) -> Any:
        members = resolve(self._members)
        if not isinstance(members, (list, Mapping, str)):
            raise TypeError("Member list must be a list")
        found: dict[int, dict[str, str]] = {}
        for member in members:
            if not isinstance(member, str):
                raise TypeError("Member list items must be strings")
            text, equals, value = member.partition("=")
            if not equals:
                raise ValueError(f"{self.name}: {member!r} has no '='")
            match = self._MEMBER.match(text)
            if match:
                found.setdefault(int(match[1]), {})[match[2]] = value
        complete = (found[index] for index in sorted(found))
        return {item[self._key]: item[self._value] for item in complete if self._key in item and self._value in item}
