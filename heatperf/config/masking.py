"""Nothing secret leaves through messages, ``config show`` or logs.

In: option values. Out: the same text with secrets replaced by ``***``. Pure functions; err on the side of hiding.
"""

import re
from typing import Any

from oslo_config import cfg

MASK = "***"

# Options that no library marks as secret although their names say they are; *_file names hold paths, which are shown.
_SECRET_NAME = re.compile(r"passw|passphrase|secret|hmac_key|encryption_key|private_key|api_?key|access_key|passcode")
_SECRET_QUERY = re.compile(
    r"([?&;](?:[^=&;#]*(?:passw|pwd|secret|token|api_?key|access_?key|credential|signature)[^=&;#]*)=)[^&;#\s]*",
    re.IGNORECASE,
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]@]*)(:\d*)?")


def is_secret(opt: cfg.Opt) -> bool:
    """Whether an option's value must never be shown, whoever declared it."""
    return bool(opt.secret or (_SECRET_NAME.search(opt.dest) and not opt.dest.endswith(("_file", "file"))))


def _mask_userinfo(part: str) -> str:
    """user:password@host -> user:***@host; a userinfo without a colon may be a token and is hidden whole."""
    userinfo, at, host = part.rpartition("@")
    if not at:
        return part
    user, colon, _ = userinfo.partition(":")
    return f"{user}:{MASK}@{host}" if colon else f"{MASK}@{host}"


def _mask_after_scheme(rest: str) -> str:
    """The part of a URL after ``://``; brokers allow several hosts, each with its own credentials."""
    text = rest.rstrip(" \t\n,;\"'")
    rest, separator = text, rest[len(text) :]
    boundary = re.search(r"[/?#]", rest)
    head, tail = (rest[: boundary.start()], rest[boundary.start() :]) if boundary else (rest, "")
    parts = head.split(",")
    plain = [part for part in parts if "@" not in part]
    # A password with an unescaped '/', '?', '#' or ',' breaks the grammar, not the duty to hide it.
    broken = "@" in tail and (len(plain) < len(parts) or any(not _HOST_AND_PORT.fullmatch(part) for part in plain))
    torn = plain and len(plain) < len(parts)
    if broken or torn:
        return MASK + rest[rest.rindex("@") :] + separator
    return ",".join(_mask_userinfo(part) for part in parts) + tail + separator


def mask_urls(text: str) -> str:
    """Hide credentials and secret-looking query parameters of every URL in a text."""
    starts = [match.end() for match in _URL.finditer(text)]
    if not starts:
        return text
    pieces = [text[: starts[0]]]
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        following = _URL.search(text, begin) if end != len(text) else None
        stop = following.start() if following else end
        pieces.append(_mask_after_scheme(text[begin:stop]) + text[stop:end])
    return _SECRET_QUERY.sub(rf"\1{MASK}", "".join(pieces))


def mask(opt: cfg.Opt, value: Any) -> Any:
    """The value of an option as it may be shown; None and empty values stay what they are, as they hide nothing."""
    if value is None or value == "" or value == []:
        return value
    if is_secret(opt):
        # Which broker is meant is what operators look for; only its credentials are secret.
        return mask_urls(value) if opt.dest == "transport_url" and "://" in value else MASK
    if isinstance(value, str):
        return mask_urls(value)
    if isinstance(value, list | tuple):
        return [mask_urls(item) if isinstance(item, str) else item for item in value]
    if isinstance(value, dict):
        return {
            key: MASK if _SECRET_NAME.search(str(key)) else mask_urls(item) if isinstance(item, str) else item
            for key, item in value.items()
        }
    return value
