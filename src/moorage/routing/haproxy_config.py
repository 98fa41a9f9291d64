"""Makes the proxy's configuration from its settings: the template `haproxy.cfg.j2`."""

import os
import re
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

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


FALLBACK_SOCKET = "fallback.sock"
"""In `run_dir`: where the gateway serves `pages.fallback_app`."""

WAKE_SOCKET = "wake.sock"
"""In `run_dir`: where the gateway takes questions for apps, see `waking`."""

ADMIN_SOCKET = "admin.sock"
"""In `run_dir`: where the running proxy is changed, see `admin`."""

HOSTS = "hosts.map"
"""In `run_dir`: the map from host to address that a starting proxy reads, see `router`."""

SOCKETS = "sockets"
"""In `run_dir`: symlinks to the unix sockets of apps, named as the proxy's servers for them."""

CERTIFICATES = "certificates"
"""In `run_dir`: a PEM file for each name, and their list."""

CERTIFIED = "certified.map"
"""In `run_dir`: the map of the names that have a certificate."""

PROBE_HEADER = "X-Moorage-Probe"
"""Marks the gateway's own requests; its value, 32 hex digits, is in the request's line."""

FALLBACK_HEADER = "X-Moorage-Fallback"
"""Marks responses of the gateway or the proxy; removed from responses of apps."""

APP_BACKENDS = ("safe", "unsafe", "last-safe", "last-unsafe")
"""The backends that send requests to apps."""

_NAMES = {
    "admin": ADMIN_SOCKET,
    "asking": "asking.sock",
    "certificates": CERTIFICATES,
    "certified": CERTIFIED,
    "fallback": FALLBACK_SOCKET,
    "fallback_header": FALLBACK_HEADER,
    "hosts": HOSTS,
    "last": "last.sock",
    "probe_header": PROBE_HEADER,
    "sockets": SOCKETS,
    "wake": WAKE_SOCKET,
}

_BUFFER_BYTES = 32_768
"""For the headers of a request or a response, 1 KiB less: a payment fits, or a contract wallet's
signature, of 16 KiB. A body that nobody reads takes one, each way. A larger one costs every
request, as it is copied to be sent again."""

_MOST_CONNECTIONS = 20_000
_DESCRIPTORS_BESIDE = 200  # connections
_CONNECTION_BYTES = 63 * 1024  # idle, with TLS: measured
_REQUEST_BYTES = 48 * 1024  # half of one whose buffers are full both ways
_BASE_BYTES = 40 * 1024 * 1024
_SOCKET_BYTES = 131_072  # 2 MB/s to a visitor who is 100 ms away
_SOCKETS_SHARE = 3_000
_CROWDED = 32  # connections or requests of one address, while half of all are taken
_STREAMS = 32  # of one connection of HTTP/2
_LONGEST = "24h"  # that a connection may be silent, or outlive a proxy that was replaced


@dataclass(frozen=True, kw_only=True)
class Api:
    """The gateway's own API under a host name of its own; `dial` is `host:port`."""

    host: str
    dial: str


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """What one proxy serves and where it keeps its files.

    `run_dir` is the Router's and becomes the proxy's working directory: the names of its files are
    relative to it. `state_dir` holds the log of requests and the record of the running process.
    With `https_port`, hosts that have a certificate are served there, and over plain HTTP others.
    """

    run_dir: Path
    state_dir: Path
    base_domain: str
    former_domains: tuple[str, ...] = ()
    listen_address: str = "127.0.0.1"  # empty: every interface
    http_port: int = 8080  # 0: a free one, kept while it stays free
    https_port: int | None = None
    memory_bytes: int | None = None  # that the process may use
    visitor_connections: int = 0  # of one address, and requests; 0: any number
    trusted_proxies: tuple[str, ...] = ()  # networks that connect on behalf of many visitors
    api: Api | None = None


class Bounds(NamedTuple):
    """How many connections and requests are served at the same time; `of_one`: 0 for any number."""

    connections: int
    requests: int
    within: int  # connections with those from one part of the proxy to another
    of_one: int  # address, or IPv6 /64
    crowded: int  # of one, while half of all are taken
    socket_bytes: int  # that the kernel keeps for a connection each way; it takes twice as much


def _bounds(settings: ProxySettings) -> Bounds:
    """Returns what fits into the memory and the descriptors that the process may have.

    A request takes one descriptor, and two more while its app is started. What a few addresses
    have can take half of each at most, so others find room.
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 4 * _MOST_CONNECTIONS
    most = min(_MOST_CONNECTIONS, descriptors // 4)
    each = most * _CONNECTION_BYTES
    if settings.memory_bytes is not None:
        each = max(settings.memory_bytes - _BASE_BYTES, 0) // 2
    connections = max(min(most, each // _CONNECTION_BYTES), 2 * _CROWDED)
    return Bounds(
        connections=connections,
        requests=max(min(most, each // _REQUEST_BYTES), 2 * _CROWDED),
        within=min(3 * connections, (descriptors - _DESCRIPTORS_BESIDE) // 2),
        of_one=settings.visitor_connections,
        crowded=_CROWDED,
        socket_bytes=min(max(2 * each // _SOCKETS_SHARE, _SOCKET_BYTES), 8 * _SOCKET_BYTES),
    )


def haproxy_config(settings: ProxySettings, *, servers: Iterable[str] = ()) -> str:
    """Returns the whole configuration. `settings.http_port` must not be 0.

    `servers` are those that a starting proxy has for unix sockets.
    """
    template = files(__package__).joinpath("haproxy.cfg.j2").read_text()
    return (
        Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 (no HTML)
        .from_string(template)
        .render(
            names=_NAMES,
            addresses=_addresses(settings.listen_address),
            http_port=settings.http_port,
            https_port=settings.https_port,
            api=settings.api,
            one_site=_one_site((settings.base_domain, *settings.former_domains)),
            host_pattern=HOST_PATTERN,
            buffer_bytes=_BUFFER_BYTES,
            bounds=_bounds(settings),
            trusted=settings.trusted_proxies,
            too_busy=_quoted(_TOO_BUSY),
            too_many=_quoted(_TOO_MANY),
            streams=_STREAMS,
            longest=_LONGEST,
            errors=_ERRORS,
            servers=list(servers),
            no_host=_quoted(_NO_HOST),
        )
    )


def _addresses(listen: str) -> list[str]:
    if listen:
        return [f"[{listen}]" if ":" in listen else listen]
    return ["*", "[::]"] if os.path.exists("/proc/net/if_inet6") else ["*"]  # noqa: PTH110


def _one_site(domains: tuple[str, ...]) -> str:
    r"""Returns a pattern for hosts that share more than their last label with a base domain.

    A browser treats all hosts below one registered domain as one site, unless the public suffix
    list says otherwise: one app could set or clear the cookies of all of them.
    """
    sites = dict.fromkeys(".".join(domain.split(".")[-2:]) for domain in domains)
    return rf"(^|\.)({'|'.join(map(re.escape, sites))})$"


def answers() -> dict[str, str]:
    """Returns the maps of the proxy's own answers, by file: for browsers, and as JSON."""
    return {
        file: f"json {_json(sentence, code)}\npage {_page(title, sentence)}\n"
        for file, title, sentence, code in (
            ("down.map", "Back in a moment", _DOWN, "gateway_unavailable"),
            ("failed.map", "The app is not answering", _FAILED, "app_not_answering"),
        )
    }


def _page(title: str, sentence: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
        f"<title>{title}</title><style>:root{{color-scheme:light dark}}"
        "body{font:1rem/1.6 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1.5rem}"
        f"</style><h1>{title}</h1><p>{sentence}</p></html>"
    )


def _json(sentence: str, code: str, *, retryable: bool = True) -> str:
    return f'{{"error":"{sentence}","code":"{code}","retryable":{str(retryable).lower()}}}'


def _quoted(text: str) -> str:
    """Returns a text as it stands within double quotes in the configuration."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")


_DOWN = "The gateway is starting or down. Please try again in a few seconds."
_FAILED = "This app runs but did not answer the request. Please try again in a moment."
_NO_HOST = _json(
    "The request names no host, so no app can be meant. Send a Host header.",
    "host_missing",
    retryable=False,
)
_TOO_MANY = _json("Too many of your requests are under way. Please wait for some.", "too_many")
_TOO_BUSY = _json("Too many requests for this app are under way. Please try again.", "app_busy")
_MALFORMED = _json(
    "The request is not valid HTTP, or its headers are larger than 31 KiB.",
    "request_malformed",
    retryable=False,
)
_SLOW = _json("The request's headers took more than ten seconds. Please try again.", "too_slow")

_ERRORS = {
    400: f'string "{_quoted(_MALFORMED)}"',
    408: f'string "{_quoted(_SLOW)}"',
    502: 'lf-string "%[var(txn.kind,json),map_str(failed.map)]"',
    503: 'lf-string "%[var(txn.kind,json),map_str(down.map)]"',
    504: 'lf-string "%[var(txn.kind,json),map_str(failed.map)]"',
}
