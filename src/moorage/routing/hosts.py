"""Checks host names as routes use them: lower case, ASCII labels, no port, no trailing dot."""

import re

from moorage.errors import InvalidField

LABEL_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""One DNS label (RFC 1123), in a syntax that means the same to Python and the proxy (RE2)."""

HOST_PATTERN = rf"{LABEL_PATTERN}(?:\.{LABEL_PATTERN})*"

MAX_LABEL_LENGTH = 32  # the contract's longest uniqueName

_HOST = re.compile(HOST_PATTERN)


def is_host(text: str) -> bool:
    """Returns whether `text` is a host name. It is then also safe as a path component."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def check_host(host: str, *, max_length: int) -> None:
    """Raises InvalidField unless `host` is a host name of at most `max_length` characters."""
    if not is_host(host):
        raise InvalidField("host", f"{host!r} is not a lower-case host name")
    if len(host) > max_length:
        raise InvalidField("host", f"{host!r} is longer than {max_length} characters")


def host_of_header(header: str) -> str:
    """Returns the host in a `Host` header, without port and trailing dot, letter case kept."""
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0].removesuffix(".")
