"""The proxy's configuration as pure data: one static route for all apps, never reloaded.

A request goes to the socket that `router` keeps for its host. Where there is none, the gateway is
asked first, without the request's body, whether it can wake an app there (`waking`); the request
itself waits untouched. The same is asked, once, when the app went away before it answered, of
requests of which nothing can have been acted on. Where no app is to be had, or it does not answer,
the gateway's fallback socket answers (`pages`); where the gateway is down as well, a page of the
proxy's own. The format is Caddy 2's JSON (caddyserver.com/docs/json).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.routing.hosts import HOST_PATTERN
from moorage.routing.router import ROUTES_DIR, SOCKETS_DIR

ACCESS_LOG = "access.log"
"""In `state_dir`: a line for each request that has ended; see `access_log`."""

FALLBACK_SOCKET = "fallback.sock"
"""In `run_dir`: where the gateway serves `pages.fallback_app`."""

WAKE_HEADER = "Moorage-Wake"
"""In a request to the fallback socket: a question, answered 204 when the host leads to an app now;
anything else means that no app is to be had. No `X-Moorage-`: those the proxy removes last."""

PROBE_HEADER = "X-Moorage-Probe"
"""In a request of the gateway's own: what tells it from visits, see `probe` in the access log."""

FALLBACK_HEADER = "X-Moorage-Fallback"
"""In a response: not the app, but the gateway or the proxy wrote this. Removed from apps' own."""

JsonObject = dict[str, Any]

_ERROR_STATUS = "{http.error.status_code}"
_BODY_HEADERS = ("Expect", "Content-*", "Transfer-Encoding")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """HTTPS with a certificate per host, obtained when the first client asks for that host.

    `ask_url` (plain HTTP, on this machine) gets `?domain=<host>` and answers 200 for hosts that may
    have a certificate, anything else for the rest. With `internal`, the proxy's own authority signs
    them instead of a public one.
    """

    ask_url: str
    https_port: int = 443
    email: str | None = None
    acme_directory: str | None = None  # None: Caddy's default public authorities
    internal: bool = False


@dataclass(frozen=True, kw_only=True)
class Api:
    """The gateway's own API under a host name of its own; `dial` is `host:port`."""

    host: str
    dial: str


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """What one proxy serves and where it keeps its files.

    `run_dir` is the Router's and becomes the proxy's working directory: sockets are dialled
    relative to it. `state_dir` holds certificates, logs and the record of the running process.
    """

    run_dir: Path
    state_dir: Path
    listen_address: str = "127.0.0.1"  # empty: every interface
    http_port: int = 8080  # 0: a free one, kept while it stays free
    tls: Tls | None = None
    api: Api | None = None


def caddy_config(settings: ProxySettings) -> JsonObject:
    """The whole configuration. `settings.http_port` must be a real port here."""
    apps: JsonObject = {
        "http": {
            "http_port": settings.http_port,
            "grace_period": "3s",  # open streams end with the proxy
            "servers": _servers(settings),
        }
    }
    if settings.tls is not None:
        apps["http"]["https_port"] = settings.tls.https_port
        apps["tls"] = _certificates(settings.tls)
        apps["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(settings.state_dir / "certificates")},
        "logging": {"logs": _logs(settings.state_dir)},
        "apps": apps,
    }


def _servers(settings: ProxySettings) -> JsonObject:
    routes = [_app_route(), {"handle": _fallback("404")}]
    if settings.api is not None:
        routes.insert(0, _api_route(settings.api))
    plain = f"{settings.listen_address}:{settings.http_port}"
    if settings.tls is None:
        return {"apps": _server(plain, routes) | {"protocols": ["h1"]}}
    secure = f"{settings.listen_address}:{settings.tls.https_port}"
    return {
        "apps": _server(secure, routes) | {"tls_connection_policies": [{}]},
        "redirect": _server(plain, [_https_redirect(settings.tls.https_port)])
        | {"protocols": ["h1"]},
    }


def _server(listen: str, routes: list[JsonObject]) -> JsonObject:
    """No limit on a response's or a body's duration: long polls, streams and big uploads live."""
    return {
        "listen": [listen],
        "automatic_https": {"disable_redirects": True, "disable_certificates": True},
        "read_header_timeout": "10s",
        "idle_timeout": "2m",
        "max_header_bytes": 65_536,
        "routes": routes,
        "errors": {"routes": _gateway_down_routes()},
        "logs": {"default_logger_name": "apps"},
    }


def _app_route() -> JsonObject:
    """Any well-formed host that `routes/` has a generation for.

    The host is put into a path only as the pattern captured it. The glob reads the one name in
    `routes/<host>`; with `first_exist_fallback` no further file is touched.
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
                "routes": [_served_route(), {"handle": [_waking_proxy("404")]}],
                "errors": {"routes": [_again_route(), {"handle": _fallback_after_app()}]},
            }
        ],
        "terminal": True,
    }


def _again_route() -> JsonObject:
    """Asks the gateway for an app when there was none; the request goes there, once more at most.

    Only if the app can't have acted on it: its connection was never made, so that its body is
    unread; or its method is safe (RFC 9110, 9.2.1), it has no body, and no answer had begun.
    """
    unreached = {"vars_regexp": {"{http.error.message}": {"pattern": f"^dial unix {SOCKETS_DIR}/"}}}
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
                "routes": [{"handle": [_waking_proxy(_ERROR_STATUS)]}],
                "errors": {"routes": [{"handle": _fallback_after_app()}]},
            }
        ],
        "terminal": True,
    }


def _served_route() -> JsonObject:
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
            _logged("probe", f"{{http.request.header.{PROBE_HEADER}}}"),
            _app_proxy(),
        ],
        "terminal": True,
    }


def _waking_proxy(page_status: str) -> JsonObject:
    """Asks the gateway for an app, then looks for it again; the request goes on as it came.

    A method changed to HEAD leaves the request's body unread (the forward_auth directive's way). It
    has no time limit here: the gateway bounds it, and can't leave it open when it ends.
    """
    request = _trusted_request_headers()
    request["delete"] += ["Connection", "Upgrade", *_BODY_HEADERS]
    request["set"][WAKE_HEADER] = ["1"]
    page = {"handle": _fallback(page_status)}
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{FALLBACK_SOCKET}"}],
        "rewrite": {"method": "HEAD", "uri": "/"},
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s"},
        },
        "headers": {"request": request},
        "handle_response": [
            {"match": {"status_code": [204]}, "routes": [_served_route(), page]},
            {"routes": [page]},
        ],
    }


def _logged(key: str, value: str) -> JsonObject:
    """Adds a field to the request's line in the access log."""
    return {"handler": "log_append", "key": key, "value": value}


def _app_proxy() -> JsonObject:
    """To the app, streaming both ways. What clients say in forwarding headers is replaced.

    Idle connections are dropped after a second: sooner than common servers drop theirs (Node 5 s,
    gunicorn 2 s), so that no request is sent into a connection being closed.
    """
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{SOCKETS_DIR}{{http.matchers.file.relative}}"}],
        "flush_interval": -1,
        "transport": {
            "protocol": "http",
            "dial_timeout": "3s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s", "max_idle_conns_per_host": 64},
        },
        "headers": {
            "request": _trusted_request_headers(),
            "response": {"delete": [FALLBACK_HEADER]},
        },
    }


def _fallback(proxy_status: str) -> list[JsonObject]:
    """The gateway's page for this host, and a line in the log that says so."""
    return [_logged("page", proxy_status), _fallback_proxy()]


def _fallback_after_app() -> list[JsonObject]:
    """The same where an app failed: it may have taken the request's body, which then is gone."""
    with_body = {"handle": [_fallback_proxy()]}
    without = _fallback_proxy()
    another = {"handler": "rewrite", "method": "POST"}
    without["rewrite"] = {"method": "GET"}  # changed to which, Caddy sends no body
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
    """To the gateway's page for this host; the page is plain HTTP, also to a WebSocket client."""
    request = _trusted_request_headers()
    request["delete"] += ["Connection", "Upgrade", WAKE_HEADER]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{FALLBACK_SOCKET}"}],
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "response_header_timeout": "30s",
            "compression": False,
            "keep_alive": {"idle_timeout": "1s"},
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
                "flush_interval": -1,
                "transport": {"protocol": "http", "dial_timeout": "3s", "compression": False},
                "headers": {"request": _trusted_request_headers()},
            }
        ],
        "terminal": True,
    }


def _trusted_request_headers() -> JsonObject:
    """The proxy writes X-Forwarded-For, -Host and -Proto itself; the rest a client could forge."""
    return {
        "delete": ["Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Moorage-*"],
        "set": {"X-Real-Ip": ["{http.request.remote.host}"]},
    }


def _gateway_down_routes() -> list[JsonObject]:
    """The proxy's own answer, when app and gateway are both silent: a page or JSON."""
    headers = {"Cache-Control": ["no-store"], "Retry-After": ["5"], FALLBACK_HEADER: ["gateway"]}
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
        {
            "match": [{"header": {"Accept": ["*text/html*"]}}],
            "handle": [_static(page, headers | {"Content-Type": ["text/html; charset=utf-8"]})],
            "terminal": True,
        },
        {"handle": [_static(plain, headers | {"Content-Type": ["application/json"]})]},
    ]


def _static(body: str, headers: dict[str, list[str]]) -> JsonObject:
    return {"handler": "static_response", "status_code": 503, "headers": headers, "body": body}


def _https_redirect(https_port: int) -> JsonObject:
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


def _certificates(tls: Tls) -> JsonObject:
    issuer: JsonObject = {"module": "internal"} if tls.internal else {"module": "acme"}
    if tls.email is not None and not tls.internal:
        issuer["email"] = tls.email
    if tls.acme_directory is not None and not tls.internal:
        issuer["ca"] = tls.acme_directory
    return {
        "automation": {
            "policies": [{"on_demand": True, "issuers": [issuer]}],
            "on_demand": {"permission": {"module": "http", "endpoint": tls.ask_url}},
        }
    }


def _logs(state_dir: Path) -> JsonObject:
    return {
        "default": _log(state_dir / "caddy.log") | {"exclude": ["http.log.access"]},
        "access": _log(state_dir / ACCESS_LOG) | {"include": ["http.log.access"]},
    }


def _log(path: Path) -> JsonObject:
    """A rolling file of JSON lines, without headers and query strings: they may hold secrets."""
    removed = ("request>headers", "request>tls", "resp_headers", "user_id")
    fields: JsonObject = {name: {"filter": "delete"} for name in removed}
    fields["request>uri"] = {"filter": "regexp", "regexp": r"\?.*", "value": ""}
    return {
        "writer": {
            "output": "file",
            "filename": str(path),
            "mode": "0600",
            "roll_size_mb": 20,
            "roll_keep": 4,
            "roll_gzip": False,  # they are read to their ends after they were rolled
        },
        "encoder": {"format": "filter", "wrap": {"format": "json"}, "fields": fields},
    }
