"""Makes the proxy's routes as pure data: one static route for all apps.

A request goes to the address that `router` keeps for its host. If there is none, the proxy asks the
gateway, without the request's body, to wake the app (`waking`); the request itself waits. It also
asks, once, when an app went away before it answered, if the app cannot have acted on the request.
If there is no app, or it does not answer, the gateway's fallback socket answers (`pages`). If the
gateway is down too, the proxy sends a page of its own. The format is Caddy 2's JSON
(caddyserver.com/docs/json).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moorage.routing.hosts import HOST_PATTERN
from moorage.routing.plain import PLAIN_DIR
from moorage.routing.response_headers import cleaning
from moorage.routing.router import ROUTES_DIR, SOCKETS_DIR

FALLBACK_SOCKET = "fallback.sock"
"""In `run_dir`: where the gateway serves `pages.fallback_app`."""

WAKE_SOCKET = "wake.sock"
"""In `run_dir`: where the gateway serves `waking.waking_app`. It answers HEAD / with 204 if the
host has an app now, otherwise with another status. Pages have a socket of their own, so that
waiting questions cannot block them."""

PROBE_HEADER = "X-Moorage-Probe"
"""Marks the gateway's own requests; its value is `probe` in the access log."""

FALLBACK_HEADER = "X-Moorage-Fallback"
"""Marks responses of the gateway or the proxy; removed from responses of apps."""

_APP_HEADER_BYTES = 16_384
"""Limit for an app's response, with the 1xx responses before it. In the proxy's memory, many small
fields take 60 times their bytes until the client has read the response."""

_OWN_HEADER_BYTES = 65_536  # of the gateway's responses: a 402 has its challenges in headers

_FLUSH_NANOSECONDS = 10_000_000
"""How long a part of a response of known length may wait for more; streams, which have none, never
wait. Without a pause each response would be sent in two parts, by two more tasks."""

JsonObject = dict[str, Any]

_ERROR_STATUS = "{http.error.status_code}"
_ROUTE_FILE = "{http.matchers.file.relative}"  # `/host/name` below routes/
_OURS = {"Cache-Control": ["no-store"], FALLBACK_HEADER: ["gateway"]}
_BODY_HEADERS = ("Expect", "Content-*", "Transfer-Encoding")


@dataclass(frozen=True, kw_only=True)
class Api:
    """The gateway's own API under a host name of its own; `dial` is `host:port`."""

    host: str
    dial: str


def routes(api: Api | None, base_domains: Sequence[str]) -> list[JsonObject]:
    """Returns the routes of all requests, in the order in which they are tried."""
    ours = [] if api is None else [_api_route(api)]
    served = _served_route(base_domains)
    return [*ours, _app_route(served), _no_host_route(), {"handle": _fallback("404")}]


def _app_route(served: JsonObject) -> JsonObject:
    """Returns the route of every well-formed host.

    Only the host that the pattern captured becomes part of a path. The glob reads the one name in
    `routes/<host>`; with `first_exist_fallback`, Caddy touches no further file.
    """
    return {
        "match": [
            {
                "vars_regexp": {
                    "{http.request.host}": {"name": "app", "pattern": rf"^({HOST_PATTERN})\.?$"}
                },
            }
        ],
        "handle": [
            {
                "handler": "subroute",
                "routes": [served, {"handle": [_waking_proxy("404", served)]}],
                "errors": {"routes": [_again_route(served), {"handle": _fallback_after_app()}]},
            }
        ],
        "terminal": True,
    }


def _no_host_route() -> JsonObject:
    """Answers HTTP/1.0 requests without a host (RFC 9112, 3.2); Caddy refuses an empty one."""
    sentence = "The request names no host, so no app can be meant. Send a Host header."
    plain = f'{{"error":"{sentence}","code":"host_missing","retryable":false}}'
    return {
        "match": [{"vars": {"{http.request.host}": [""]}}],
        "handle": [_static(400, plain, _OURS | {"Content-Type": ["application/json"]})],
        "terminal": True,
    }


def _again_route(served: JsonObject) -> JsonObject:
    """Asks the gateway to bring up an app that was not there, and sends the request once more.

    Only if the app can't have acted on it: either no connection was made, so the body is unread;
    or the method is safe (RFC 9110, 9.2.1), there is no body, and no response had begun.
    """
    dialled = f"^dial (unix {SOCKETS_DIR}/|tcp )"
    unreached = {"vars_regexp": {"{http.error.message}": {"pattern": dialled}}}
    safe = {
        "vars": {_ERROR_STATUS: ["502"]},
        "method": ["GET", "HEAD", "OPTIONS"],
        "not": [
            {"header": {"Transfer-Encoding": ["*"]}},
            {"header_regexp": {"Content-Length": {"pattern": "[1-9]"}}},
        ],
    }
    return {
        "match": [unreached, safe],
        "handle": [
            {
                "handler": "subroute",
                "routes": [{"handle": [_waking_proxy(_ERROR_STATUS, served)]}],
                "errors": {"routes": [{"handle": _fallback_after_app()}]},
            }
        ],
        "terminal": True,
    }


def _served_route(base_domains: Sequence[str]) -> JsonObject:
    """Returns the route to the app, for hosts that have a file in `routes/`."""
    return {
        "match": [
            {
                "file": {
                    "root": ROUTES_DIR,
                    "try_files": ["/{http.regexp.app.1}/*"],
                    "try_policy": "first_exist_fallback",
                }
            }
        ],
        "handle": [
            _logged("served", "{http.regexp.app.1}"),
            _logged("latency", "{http.reverse_proxy.upstream.latency_ms}"),
            {
                "handler": "subroute",
                "routes": [
                    _probe_route(),
                    *cleaning(base_domains, removed=(FALLBACK_HEADER,)),
                    _port_route(),
                    _socket_route(),
                ],
            },
        ],
        "terminal": True,
    }


def _probe_route() -> JsonObject:
    return {
        "match": [{"header": {PROBE_HEADER: ["*"]}}],
        "handle": [_logged("probe", f"{{http.request.header.{PROBE_HEADER}}}")],
    }


def _port_route() -> JsonObject:
    """Returns the route to an app with a TCP port: the file's name is the address to dial."""
    name = {"name": "port", "pattern": "^/[^/]+/(.+:[0-9]+)$"}
    return {
        "match": [{"vars_regexp": {_ROUTE_FILE: name}}],
        "handle": [_app_proxy("{http.regexp.port.1}")],
        "terminal": True,
    }


def _socket_route() -> JsonObject:
    """Returns the route to an app with a unix socket."""
    return {"handle": [_app_proxy(f"unix/{SOCKETS_DIR}{_ROUTE_FILE}")]}


def _waking_proxy(page_status: str, served: JsonObject) -> JsonObject:
    """Asks the gateway to wake the app, then sends the unchanged request there.

    Asking with HEAD leaves the request's body unread (as the forward_auth directive does). There is
    no time limit here: the gateway has one, and its connections close when it ends.
    """
    request = _trusted_request_headers()
    request["delete"] += ["Connection", "Upgrade", *_BODY_HEADERS]
    page = {"handle": _fallback(page_status)}
    held = {"handle": [_logged("held", "{http.request.duration_ms}") | {"early": True}]}
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{WAKE_SOCKET}"}],
        "rewrite": {"method": "HEAD", "uri": "/"},
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s"},
            "max_response_header_size": _OWN_HEADER_BYTES,
        },
        "headers": {"request": request},
        "handle_response": [
            {"match": {"status_code": [204]}, "routes": [held, served, page]},
            {"routes": [page]},
        ],
    }


def _logged(key: str, value: str) -> JsonObject:
    """Returns a handler that adds a field to the request's line in the access log."""
    return {"handler": "log_append", "key": key, "value": value}


def _app_proxy(dial: str) -> JsonObject:
    """Proxies to the app, streaming both ways, and replaces the client's forwarding headers.

    Closes idle connections after a second, earlier than common servers do (Node 5 s, gunicorn 2 s),
    so that no request is sent into a connection that is being closed.
    """
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial}],
        "flush_interval": _FLUSH_NANOSECONDS,
        "transport": {
            "protocol": "http",
            "dial_timeout": "3s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s", "max_idle_conns_per_host": 64},
            "max_response_header_size": _APP_HEADER_BYTES,
        },
        "headers": {"request": _trusted_request_headers()},
    }


def _fallback(proxy_status: str) -> list[JsonObject]:
    """Answers with the gateway's page for this host, and logs its status as `page`."""
    return [_logged("page", proxy_status), _fallback_proxy()]


def _fallback_after_app() -> list[JsonObject]:
    """Does the same after an app failed; it may have read the request's body already."""
    with_body = {"handle": [_fallback_proxy()]}
    without = _fallback_proxy()
    another = {"handler": "rewrite", "method": "POST"}
    without["rewrite"] = {"method": "GET"}  # on a change to GET, Caddy sends no body
    without["headers"]["request"]["delete"] += _BODY_HEADERS
    return [
        _logged("page", _ERROR_STATUS),
        {
            "handler": "subroute",
            "routes": [with_body],
            "errors": {"routes": [{"handle": [another, without]}]},
        },
    ]


def _fallback_proxy() -> JsonObject:
    """Proxies to the gateway's page, as plain HTTP even if the client asked for a WebSocket."""
    request = _trusted_request_headers()
    request["delete"] += ["Connection", "Upgrade"]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{FALLBACK_SOCKET}"}],
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "response_header_timeout": "30s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s"},
            "max_response_header_size": _OWN_HEADER_BYTES,
        },
        "headers": {"request": request},
    }


def _api_route(api: Api) -> JsonObject:
    return {
        "match": [{"host": [api.host]}],
        "handle": [
            {
                "handler": "reverse_proxy",
                "upstreams": [{"dial": api.dial}],
                "flush_interval": _FLUSH_NANOSECONDS,
                "transport": {
                    "protocol": "http",
                    "dial_timeout": "3s",
                    "compression": False,
                    "max_response_header_size": _OWN_HEADER_BYTES,
                },
                "headers": {"request": _trusted_request_headers()},
            }
        ],
        "terminal": True,
    }


def _trusted_request_headers() -> JsonObject:
    """Removes headers that a client could forge; Caddy sets X-Forwarded-For, -Host and -Proto."""
    return {
        "delete": ["Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Moorage-*"],
        "set": {"X-Real-Ip": ["{http.request.remote.host}"]},
    }


def error_routes() -> list[JsonObject]:
    """Returns the proxy's own answers, a page or JSON, for when the gateway is down too."""
    headers = _OURS | {"Retry-After": ["5"]}
    sentence = "The gateway is starting or down. Please try again in a few seconds."
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
        "<title>Back in a moment</title><style>:root{color-scheme:light dark}"
        "body{font:1rem/1.6 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1.5rem}"
        f"</style><h1>Back in a moment</h1><p>{sentence}</p></html>"
    )
    plain = f'{{"error":"{sentence}","code":"gateway_unavailable","retryable":true}}'
    return [
        _no_host_route(),
        {
            "match": [{"header": {"Accept": ["*text/html*"]}}],
            "handle": [
                _static(503, page, headers | {"Content-Type": ["text/html; charset=utf-8"]})
            ],
            "terminal": True,
        },
        {"handle": [_static(503, plain, headers | {"Content-Type": ["application/json"]})]},
    ]


def _static(status: int, body: str, headers: dict[str, list[str]]) -> JsonObject:
    return {"handler": "static_response", "status_code": status, "headers": headers, "body": body}


def plain_routes(to_apps: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns the routes of hosts that are served over plain HTTP, as they have a file for it."""
    host = {"name": "plain", "pattern": rf"^({HOST_PATTERN})\.?$"}
    file = {"root": PLAIN_DIR, "try_files": ["/{http.regexp.plain.1}"]}
    serve = {"handler": "subroute", "routes": list(to_apps)}
    served = {"match": [{"file": file}], "handle": [serve], "terminal": True}
    return [
        {
            "match": [{"vars_regexp": {"{http.request.host}": host}}],
            "handle": [{"handler": "subroute", "routes": [served]}],
        }
    ]


def https_redirect(https_port: int) -> JsonObject:
    """Redirects plain HTTP to the same address by HTTPS, keeping method and body."""
    port = "" if https_port == 443 else f":{https_port}"
    location = f"https://{{http.request.host}}{port}{{http.request.uri}}"
    return {
        "handle": [
            {
                "handler": "static_response",
                "status_code": 308,
                "headers": {"Location": [location], FALLBACK_HEADER: ["https"]},
            }
        ]
    }
