"""What a stranger is told: the same facts in each document, short, and checked by others' tools."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from skills_ref.validator import validate as skill_problems
from starlette.testclient import TestClient

from moorage import __version__
from moorage.api.discovery.documents import documents
from moorage.api.http.dispatch import CrossOrigin, Dispatch
from moorage.api.operations import OPERATIONS
from moorage.cli.main import CLIENT_COMMANDS
from support.gateway.discovery_facts import BOARD, FACTS, PAY_TO

REPOSITORY = Path(__file__).parents[4]
ENDPOINTS = [("GET", path, app) for path, app in documents(FACTS, OPERATIONS, BOARD)]
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(CrossOrigin(Dispatch(ENDPOINTS)))


def paths(text: str) -> set[str]:
    """Every endpoint that a text names."""
    found = re.findall(r"(?:GET|POST|PUT|PATCH|DELETE) (/[\w/{}.-]*)", text)
    return {path.rstrip(".") for path in found}


def test_llms_text_is_short_and_names_only_what_there_is(client: TestClient) -> None:
    text = client.get("/llms.txt").text
    assert len(text.encode()) <= 6 * 1024
    assert text.count("\n# ") == 0
    assert text.startswith("# ")
    served = {operation.path for operation in OPERATIONS} | {path for _, path, _ in ENDPOINTS}
    served.add("/mcp")
    assert paths(text) - served == set()
    linked = {urlsplit(url).path for url in re.findall(r"\]\((https://[^)]+)\)", text)}
    assert linked - served == set()
    assert "$" not in re.sub(r"\$\d", "", text)


@pytest.mark.parametrize(
    "subject",
    [
        *("X-Signature", "POST /agent/quote", "PAYMENT-SIGNATURE", "Authorization: Payment"),
        *("X-Payment-Tx", "/status", "Redeploy", "PATCH", "volume", "logs", "rollback"),
        *("POST /agent/credits", "DELETE", "Money back", "POST /deploy"),
    ],
)
def test_llms_text_tells_each_thing_that_an_agent_does(client: TestClient, subject: str) -> None:
    assert subject in client.get("/llms.txt").text


def test_test_vector_is_what_another_library_signs(client: TestClient) -> None:
    text = client.get("/llms.txt").text
    key, signed, signature = re.findall(r"`(0x[0-9a-fA-F:-]{64,})`", text)
    account = Account.from_key(key)
    assert signed.startswith(f"{account.address}:")
    made = account.sign_message(encode_defunct(text=signed))
    assert made.signature.to_0x_hex() == signature


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip, deflate, br", True), ("br;q=1, GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False)],
)
@pytest.mark.parametrize("path", ["/openapi.json", "/llms.txt", "/skill.md"])
def test_documents_are_packed_for_clients_that_accept_gzip(
    client: TestClient, path: str, accepted: str, packed: bool
) -> None:
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    got = client.get(path, headers={"Accept-Encoding": accepted})
    assert ("content-encoding" in got.headers) == packed
    assert got.content == plain.content  # the client has unpacked it
    assert (int(got.headers["content-length"]) < len(plain.content) / 2) == packed
    assert (got.headers["etag"] == plain.headers["etag"]) != packed
    assert got.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    held = {"Accept-Encoding": accepted, "If-None-Match": got.headers["etag"]}
    assert client.get(path, headers=held).status_code == 304


def test_front_is_a_page_for_browsers_and_text_for_agents(client: TestClient) -> None:
    page, text = client.get("/", headers=HTML), client.get("/", headers={"Accept": "*/*"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text == client.get("/llms.txt").text
    assert page.headers["vary"] == "Accept"
    assert text.headers["vary"] == "Accept, Accept-Encoding"
    for told in ("$0.50 a month", "arbitrum", "operator@example.com", "/terms", "https://moor."):
        assert told in page.text, told
        assert told in text.text, told
    assert PAY_TO in text.text


def test_page_takes_nothing_from_elsewhere_and_runs_no_script(client: TestClient) -> None:
    page = client.get("/", headers=HTML)
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style")
    assert "script-src" not in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert re.findall(r'(?:src|<link[^>]* href)="(?!/)', page.text) == []
    links = set(re.findall(r'<a href="(?!/)([^"]*)"', page.text))
    assert links == {"https://moor.example.com/terms", "mailto:operator@example.com"}


def test_every_document_is_cached_and_asked_for_again_for_nothing(client: TestClient) -> None:
    for _, path, _ in ENDPOINTS:
        first = client.get(path)
        assert first.status_code == 200, path
        assert first.headers["cache-control"] == "max-age=300"
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = client.head(path)
        assert head.headers["etag"] == first.headers["etag"]


def test_skill_is_valid_and_its_index_has_its_digest(client: TestClient, tmp_path: Path) -> None:
    (entry,) = client.get("/.well-known/agent-skills/index.json").json()["skills"]
    skill = client.get(urlsplit(entry["url"]).path).content
    assert entry["digest"] == f"sha256:{hashlib.sha256(skill).hexdigest()}"
    directory = tmp_path / entry["name"]
    directory.mkdir()
    (directory / "SKILL.md").write_bytes(skill)
    assert skill_problems(directory) == []
    assert entry["description"] in skill.decode()


def test_catalogs_lead_to_documents_that_are_there(client: TestClient) -> None:
    catalog = client.get("/.well-known/api-catalog")
    assert catalog.headers["content-type"] == "application/linkset+json"
    described = catalog.json()["linkset"][1]
    links = [link for kind in ("service-desc", "service-doc") for link in described[kind]]
    for link in links:
        answer = client.get(urlsplit(link["href"]).path, headers={"Accept": link["type"]})
        assert answer.headers["content-type"].startswith(link["type"])
    assert 'rel="api-catalog"' in client.get("/").headers["link"]
    for entry in client.get("/.well-known/ai-catalog.json").json()["entries"]:
        answer = client.get(urlsplit(entry["url"]).path)
        assert answer.headers["content-type"].startswith(entry["type"])
        assert re.fullmatch(r"urn:air:moor\.example\.com:(mcp|skill):moorage", entry["identifier"])


def test_server_card_says_where_the_mcp_server_is(client: TestClient) -> None:
    card = client.get("/mcp/server-card")
    assert card.headers["content-type"] == "application/mcp-server-card+json"
    assert card.content == client.get("/.well-known/mcp/server-card.json").content
    told: dict[str, Any] = card.json()
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", told["name"])
    assert len(told["description"]) <= 100
    assert told["remotes"][0]["type"] == "streamable-http"
    assert told["remotes"][0]["url"] == "https://moor.example.com/mcp"
    assert {"$schema", "name", "version", "description", "remotes"} <= set(told)


def test_pages_of_other_origins_may_call_and_read_what_a_payment_needs(client: TestClient) -> None:
    asks = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-wallet-address,authorization",
    }
    preflight = client.options("/agent/deploy", headers=asks)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    answer = client.get("/llms.txt", headers={"Origin": "https://app.example.com"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"WWW-Authenticate", "PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "Retry-After"}


def test_registry_entry_names_this_version_its_command_and_its_secrets() -> None:
    """By the registry's rules of 2025-09-29: names are reverse DNS, descriptions short."""
    entry = json.loads((REPOSITORY / "server.json").read_text())
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert 3 <= len(entry["name"]) <= 200
    assert 1 <= len(entry["description"]) <= 100
    (package,) = entry["packages"]
    assert entry["version"] == package["version"] == __version__
    assert (package["registryType"], package["identifier"]) == ("pypi", "moorage-client")
    (with_tools,) = package["runtimeArguments"]
    assert with_tools["value"] == f"moorage-client[mcp]=={__version__}"
    assert package["transport"] == {"type": "stdio"}
    (argument,) = package["packageArguments"]
    assert argument["value"] in {command.name for command in CLIENT_COMMANDS}
    variables = {each["name"]: each for each in package["environmentVariables"]}
    documented = (REPOSITORY / "docs/use/mcp.md").read_text()
    assert [name for name in variables if name not in documented] == []
    assert variables["MOORAGE_PRIVATE_KEY"]["isSecret"]
    assert {each for each in variables if variables[each].get("isRequired")} == {
        "MOORAGE_GATEWAY",
        "MOORAGE_PRIVATE_KEY",
    }
