"""The proxy's configuration, compared whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from moorage.routing.caddy_config import ProxySettings, Tls, caddy_config
from moorage.routing.caddy_routes import Api

GOLDEN = Path(__file__).parent / "golden"

DEV = ProxySettings(
    run_dir=Path("/run/moorage"),
    state_dir=Path("/data/proxy"),
    base_domain="localhost",
    http_port=8080,
)
SERVE = ProxySettings(
    run_dir=Path("/run/moorage"),
    state_dir=Path("/data/proxy"),
    base_domain="apps.example.com",
    listen_address="",
    http_port=80,
    tls=Tls(ask_url="http://127.0.0.1:8403/ask", email="operator@example.com"),
    api=Api(host="gateway.example.com", dial="127.0.0.1:8402"),
)


@pytest.mark.parametrize(("name", "settings"), [("dev", DEV), ("serve", SERVE)])
def test_configuration_is_the_golden_one(name: str, settings: ProxySettings) -> None:
    expected = json.loads((GOLDEN / f"caddy-{name}.json").read_text())
    assert caddy_config(settings) == expected


def found(config: object, key: str) -> list[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(config, dict):
        here = [config[key]] if key in config else []
        return here + [value for inner in config.values() for value in found(inner, key)]
    if isinstance(config, list):
        return [value for inner in config for value in found(inner, key)]
    return []


def test_proxy_holds_no_routes_of_single_apps() -> None:
    dials = {dial for dial in found(caddy_config(DEV), "dial") if isinstance(dial, str)}
    own = {"unix/fallback.sock", "unix/wake.sock"}
    assert dials == {"unix/sockets{http.matchers.file.relative}", "{http.regexp.port.1}", *own}


def test_admin_endpoint_is_off_and_nothing_is_persisted() -> None:
    for settings in (DEV, SERVE):
        assert caddy_config(settings)["admin"] == {"disabled": True, "config": {"persist": False}}


def test_requests_and_responses_may_last() -> None:
    for limit in ("read_timeout", "write_timeout", "stream_timeout", "request_buffers"):
        assert found(caddy_config(SERVE), limit) == []


def test_another_authority_signs_when_set() -> None:
    tls = Tls(ask_url="http://127.0.0.1:1/ask", acme_directory="https://127.0.0.1:2/dir")
    settings = ProxySettings(
        run_dir=Path("/run/m"), state_dir=Path("/d"), base_domain="apps.example", tls=tls
    )
    assert found(caddy_config(settings), "issuers") == [
        [{"module": "acme", "ca": "https://127.0.0.1:2/dir"}]
    ]


def test_redirect_names_an_unusual_https_port() -> None:
    tls = Tls(ask_url="http://127.0.0.1:1/ask", https_port=8443)
    settings = ProxySettings(
        run_dir=Path("/run/m"), state_dir=Path("/d"), base_domain="apps.example", tls=tls
    )
    assert found(caddy_config(settings), "Location") == [
        ["https://{http.request.host}:8443{http.request.uri}"]
    ]


def test_certificates_lie_where_several_proxies_share_them_or_with_the_proxys_own_files() -> None:
    def root(**settings: Any) -> object:
        config = ProxySettings(
            run_dir=Path("/run/m"), state_dir=Path("/d"), base_domain="apps.example", **settings
        )
        return caddy_config(config)["storage"]["root"]

    assert root() == "/d/certificates"
    assert root(certificates=Path("/mnt/shared")) == "/mnt/shared"
