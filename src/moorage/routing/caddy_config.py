"""Makes the proxy's configuration as pure data: addresses, certificates, logs. Never reloaded.

`caddy_routes` makes the routes. The format is Caddy 2's JSON (caddyserver.com/docs/json).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moorage.routing.caddy_routes import (
    Api,
    JsonObject,
    error_routes,
    https_redirect,
    plain_routes,
    routes,
)

ACCESS_LOG = "access.log"
"""In `state_dir`: has one line for each request that has ended; see `access_log`."""

_MAX_HEADER_BYTES = 36_864
"""Of a request; Go allows 4 KiB more. A contract wallet's signature (16 KiB in hex) and a payment
(16 KiB) fit. In the proxy's memory, many small fields take some 24 times their bytes."""


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    """The operator's own certificate, as PEM, with its chain.

    The proxy reads the files when it starts. A renewed certificate has another `digest`, which
    changes the configuration.
    """

    certificate: Path
    key: Path
    digest: str


@dataclass(frozen=True, kw_only=True)
class Tls:
    """HTTPS with a certificate per host, obtained when the first client asks for that host.

    Hosts that the certificate in `files` covers need no other.

    `ask_url` (plain HTTP, on this machine) gets `?domain=<host>` and answers 200 if the host may
    have a certificate. With `internal`, the proxy's own authority signs certificates instead of a
    public one.
    """

    ask_url: str
    https_port: int = 443
    email: str | None = None
    acme_directory: str | None = None  # None: Caddy's default public authorities
    acme_root: Path | None = None  # what a private authority is trusted by
    internal: bool = False
    files: CertificateFiles | None = None


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """What one proxy serves and where it keeps its files.

    `run_dir` is the Router's and becomes the proxy's working directory: sockets are dialled
    relative to it. `state_dir` holds certificates, logs and the record of the running process.
    `memory_bytes` is a soft limit (None: no limit): near it, the proxy collects garbage more often.
    """

    run_dir: Path
    state_dir: Path
    base_domain: str
    former_domains: tuple[str, ...] = ()
    listen_address: str = "127.0.0.1"  # empty: every interface
    http_port: int = 8080  # 0: a free one, kept while it stays free
    tls: Tls | None = None
    api: Api | None = None
    memory_bytes: int | None = None
    certificates: Path | None = None  # where they are shared with other proxies; else in state_dir
    log_file_mib: int = 20  # each log keeps its current file and four older ones


def caddy_config(settings: ProxySettings) -> JsonObject:
    """Returns the whole configuration. `settings.http_port` must not be 0."""
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
        "storage": {"module": "file_system", "root": str(_certificates_directory(settings))},
        "logging": {"logs": _logs(settings)},
        "apps": apps,
    }


def _certificates_directory(settings: ProxySettings) -> Path:
    """Returns where certificates lie, and the locks and challenges of proxies that share them."""
    return settings.certificates or settings.state_dir / "certificates"


def _servers(settings: ProxySettings) -> JsonObject:
    to_apps = routes(settings.api, (settings.base_domain, *settings.former_domains))
    plain = f"{settings.listen_address}:{settings.http_port}"
    if settings.tls is None:
        return {"apps": _server(plain, to_apps) | {"protocols": ["h1"]}}
    secure = f"{settings.listen_address}:{settings.tls.https_port}"
    return {
        # One request a connection, so that the limit on connections per client address bounds
        # requests, too. No h2: each connection would carry 250 at once, of 40 KiB of the proxy's
        # memory each, and Caddy has no setting for fewer. No h3: the limit counts TCP only.
        "apps": _server(secure, to_apps) | {"protocols": ["h1"], "tls_connection_policies": [{}]},
        "redirect": _server(
            plain, [*plain_routes(to_apps), https_redirect(settings.tls.https_port)]
        )
        | {"protocols": ["h1"]},
    }


def _server(listen: str, its_routes: list[JsonObject]) -> JsonObject:
    """Returns a server without a time limit on bodies, for long polls, streams and big uploads."""
    return {
        "listen": [listen],
        "automatic_https": {"disable_redirects": True, "disable_certificates": True},
        "read_header_timeout": "10s",
        "idle_timeout": "2m",
        "max_header_bytes": _MAX_HEADER_BYTES,
        "routes": its_routes,
        "errors": {"routes": error_routes()},
        "logs": {"default_logger_name": "apps"},
    }


def _certificates(tls: Tls) -> JsonObject:
    issuer: JsonObject = {"module": "internal"} if tls.internal else {"module": "acme"}
    if tls.email is not None and not tls.internal:
        issuer["email"] = tls.email
    if tls.acme_directory is not None and not tls.internal:
        issuer["ca"] = tls.acme_directory
    if tls.acme_root is not None and not tls.internal:
        issuer["trusted_roots_pem_files"] = [str(tls.acme_root)]
    return _loaded(tls.files) | {
        "automation": {
            "policies": [{"on_demand": True, "issuers": [issuer]}],
            "on_demand": {"permission": {"module": "http", "endpoint": tls.ask_url}},
        }
    }


def _loaded(files: CertificateFiles | None) -> JsonObject:
    if files is None:
        return {}
    named = {
        "certificate": str(files.certificate),
        "key": str(files.key),
        "tags": [files.digest],
    }
    return {"certificates": {"load_files": [named]}}


def _logs(settings: ProxySettings) -> JsonObject:
    def log(name: str, **encoder: JsonObject) -> JsonObject:
        return _log(settings.state_dir / name, encoder, roll_mib=settings.log_file_mib)

    probe = {"probe": {"filter": "regexp", "regexp": "(?s)^(.{0,64}).*", "value": "$1"}}
    return {
        "default": log("caddy.log", fields=_without("request", "resp_headers"))
        | {"exclude": ["http.log.access"]},
        "access": log(
            ACCESS_LOG,
            fields=_without("request", "resp_headers", "user_id", "duration") | probe,
            wrap={"level_key": "", "name_key": "", "message_key": ""},
        )
        | {"include": ["http.log.access"]},
    }


def _log(path: Path, encoder: Mapping[str, JsonObject], *, roll_mib: int) -> JsonObject:
    """Returns a rotating log of JSON lines; `encoder` has its `fields` and those of `wrap`."""
    return {
        "writer": {
            "output": "file",
            "filename": str(path),
            "mode": "0600",
            "roll_size_mb": roll_mib,
            "roll_keep": 4,
            "roll_gzip": False,  # the gateway reads the rest of a file after its rotation
        },
        "encoder": {
            "format": "filter",
            "wrap": {"format": "json"} | encoder.get("wrap", {}),
            "fields": encoder["fields"],
        },
    }


def _without(*fields: str) -> JsonObject:
    """Returns the filter that removes fields from a log's lines.

    Without the request, no line has a header or a query string (possible secrets), and all are
    short: long ones would fill the files, and lines would be deleted before the gateway has read
    them. Each log would encode it for each request, even one of which it has no line.
    """
    return {name: {"filter": "delete"} for name in fields}
