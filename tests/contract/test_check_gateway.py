"""What `moorage check` says of nodes, tokens, names, ports, certificates and stores."""

import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.address import checksum_address
from moorage.backup.encryption import new_identity
from moorage.certificates.pem import CertificateInvalid, read_certificate
from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import Eip712Domain
from moorage.chains.signing import SigningKey
from moorage.content.store import DirectoryStore, open_content
from moorage.errors import ContentUnavailable
from moorage.operate.check import Finding, check_gateway, configuration
from moorage.operate.check.configuration import (
    check_configuration,
    check_content,
    check_names,
    check_offsite,
)
from moorage.operate.check.machine import gateway_holds
from moorage.operate.check.nodes import TokenFacts, check_nodes, check_tokens, judge_token
from moorage.settings import Settings, load_settings
from support.chains.chain_fixture import LocalChains
from support.chains.rpc_proxy import RpcProxy
from support.gateway.content_fixture import S3Server, answering, credentials_text

RIGHT = '{ name = "USD Coin", version = "2" }'


async def finding(chain: Chain, token: Token, **changed: object) -> tuple[bool, str, str]:
    configured = msgspec.structs.replace(token, **changed)
    (found,) = await check_tokens([msgspec.structs.replace(chain, tokens=(configured,))])
    assert found.name == f"{token.name} on {chain.name}"
    return found.ok, found.detail, found.remedy


async def test_each_token_says_how_it_can_be_paid_and_a_wrong_domain_what_mends_it(
    local_chains: LocalChains,
) -> None:
    chain = local_chains.base
    usdc, usdt = chain.tokens
    assert await finding(chain, usdc) == (True, f"without gas, or by transfers: {RIGHT}", "")
    assert await finding(chain, usdt) == (
        True,
        "by transfers alone: it has no EIP-3009",
        "",
    )

    ok, detail, remedy = await finding(
        chain, usdc, authorization=Eip712Domain(name="USDC", version="2")
    )
    assert (ok, remedy) == (
        False,
        f"set authorization of usdc in chains.base.tokens: {RIGHT}",
    )
    assert detail.startswith('its EIP-712 domain is not { name = "USDC", version = "2" }')

    ok, detail, _ = await finding(chain, usdc, authorization=None)
    assert ok
    assert detail.endswith(f"set authorization of usdc in chains.base.tokens: {RIGHT}")

    ok, _, remedy = await finding(chain, usdt, authorization=usdc.authorization)
    assert (ok, remedy) == (False, "leave out authorization of usdt in chains.base.tokens")


async def test_chain_that_cannot_be_asked_is_one_finding(local_chains: LocalChains) -> None:
    silent = msgspec.structs.replace(local_chains.base, rpc_urls=("http://127.0.0.1:9/",))
    found = {each.name: each for each in await check_tokens([silent, local_chains.arbitrum])}
    assert set(found) == {"chain base", "usdc on arbitrum", "usdt on arbitrum"}
    assert not found["chain base"].ok
    assert found["chain base"].remedy == "set chains.base.rpc_urls right"


async def test_silent_node_is_named_by_its_own_number_and_no_request_is_to_be_sent_again(
    local_chains: LocalChains,
) -> None:
    urls = (*local_chains.arbitrum.rpc_urls[:1], "http://127.0.0.1:9/")
    chain = msgspec.structs.replace(local_chains.arbitrum, rpc_urls=urls)
    found = {each.name: each for each in await check_nodes([chain], timeout_seconds=30)}
    assert not found["node 2 of arbitrum"].ok
    assert "(node 2: " in found["node 2 of arbitrum"].detail
    assert "again" not in found["node 2 of arbitrum"].detail


@pytest.mark.parametrize(
    ("mine", "ok"), [(None, True), (Eip712Domain(name="USD Coin", version="2"), False)]
)
def test_domain_that_a_token_does_not_tell_is_never_guessed(
    local_chains: LocalChains, mine: Eip712Domain | None, *, ok: bool
) -> None:
    chain = local_chains.base
    token = msgspec.structs.replace(chain.tokens[0], authorization=mine)
    told = (Eip712Domain(name="Bridged", version="1"),)
    for separator in (b"\1" * 32, None):
        facts = TokenFacts(authorizes=True, separator=separator, domains=told)
        found = judge_token(chain, token, facts)
        assert (found.ok, "does not tell" in found.detail) == (ok, True)
        assert "Bridged" not in found.detail + found.remedy


DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nAccessDenied"


def configured(**content: str) -> Settings:
    return load_settings(file=None, environ={}, **content)


@pytest.fixture
def credentials(s3_server: S3Server, tmp_path: Path) -> str:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text(credentials_text(s3_server.url))
    return str(path)


async def test_store_that_takes_all_is_good_and_nothing_stays_in_it(
    s3_server: S3Server, credentials: str, tmp_path: Path
) -> None:
    bucket, root = s3_server.bucket(), tmp_path / "store"
    root.mkdir()
    for settings in (
        configured(content_url=f"file://{root}"),
        configured(
            content_url=f"s3://{bucket}",
            content_credentials_file=credentials,
        ),
    ):
        (found,) = await check_content(settings)
        assert (found.name, found.ok, found.remedy) == ("content store", True, "")
        store = open_content(settings.content_url, settings.content_credentials_file)
        assert store is not None
        assert await store.items("checks") == []


async def test_off_site_backups_need_a_store_and_a_public_key(
    s3_server: S3Server, credentials: str
) -> None:
    assert await check_offsite(configured()) == []
    key = str(new_identity().to_public())
    right = {
        "backup_to": f"s3://{s3_server.bucket()}",
        "backup_credentials_file": credentials,
        "backup_recipient": key,
    }
    (found,) = await check_offsite(configured(**right))
    assert (found.name, found.ok, found.remedy) == ("off-site backups", True, "")
    mistyped = key[:-1] + ("q" if key[-1] == "p" else "p")
    for wrong, says in (
        ({"backup_recipient": ""}, "backup_recipient"),
        ({"backup_recipient": mistyped}, "backup_recipient"),
        ({"backup_to": "s3://none-such"}, "could not write"),
        ({"backup_credentials_file": "/none/such"}, "/none/such"),
    ):
        (found,) = await check_offsite(configured(**(right | wrong)))
        assert (found.ok, found.blocks, says in found.detail) == (False, False, True), found


async def test_nothing_is_tried_without_a_store() -> None:
    assert await check_content(configured()) == []


async def test_directory_that_is_not_mounted_is_told_and_no_reason_not_to_start(
    tmp_path: Path,
) -> None:
    (found,) = await check_content(configured(content_url=f"file://{tmp_path}/none"))
    assert (found.ok, found.blocks) == (False, False)
    assert "there is no directory" in found.detail
    assert "could not write" in found.detail
    assert "mounted" in found.remedy


async def test_bucket_that_is_not_there_is_told(s3_server: S3Server, credentials: str) -> None:
    settings = configured(
        content_url="s3://none-such",
        content_credentials_file=credentials,
    )
    (found,) = await check_content(settings)
    assert (found.ok, found.blocks) == (False, False)
    assert "could not write" in found.detail
    assert "content_url" in found.remedy


async def test_keys_that_may_not_write_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(DENIED) as store:
        monkeypatch.setattr(configuration, "open_content", lambda *_: store)
        (found,) = await check_content(configured(content_url="s3://bucket/below"))
    assert not found.ok
    assert "could not write" in found.detail
    assert "put, get, list and delete what is below s3://bucket/below" in found.remedy


async def test_credentials_that_others_may_read_are_a_reason_not_to_start(credentials: str) -> None:
    Path(credentials).chmod(0o644)
    settings = configured(content_url="s3://bucket", content_credentials_file=credentials)
    (found,) = await check_content(settings)
    assert (found.ok, found.blocks) == (False, True)
    assert "chmod 600" in found.detail


@pytest.mark.parametrize(
    ("step", "said"), [("get", "read what was"), ("items", "list"), ("delete", "delete")]
)
async def test_each_thing_that_the_store_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str, said: str
) -> None:
    async def refuse(*_: object) -> None:
        raise ContentUnavailable

    monkeypatch.setattr(DirectoryStore, step, refuse)
    (found,) = await check_content(configured(content_url=f"file://{tmp_path}"))
    assert f"could not {said}" in found.detail


NOW_MS = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
PAY_TO = "0x7EA5000000000000000000000000000000000001"


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, **given)


async def on_node(proxy: RpcProxy, chains: LocalChains) -> Finding:
    chain = msgspec.structs.replace(chains.arbitrum, rpc_urls=(proxy.url,))
    found, alone = await check_nodes([chain], timeout_seconds=30)
    assert found.name == "node 1 of arbitrum"
    assert (alone.name, alone.ok, alone.warns) == ("nodes of arbitrum", True, True)
    return found


def names_itself(version: str, **changed: str | None) -> Any:
    """Has a node say another version, and change fields of its blocks; with None, have none."""

    def alter(method: str, result: Any) -> Any:
        if method == "web3_clientVersion":
            return version
        if method == "eth_getBlockByNumber" and changed:
            return None if None in changed.values() else result | changed
        return result

    return alter


async def test_node_that_works_is_named_and_a_local_one_is_refused(
    arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    local = await on_node(arbitrum_proxy, local_chains)
    assert (local.ok, local.blocks) == (False, True)
    assert "anybody can mint" in local.detail
    arbitrum_proxy.alter = names_itself("nitro/v3")
    good = await on_node(arbitrum_proxy, local_chains)
    assert good.ok, good
    assert good.detail.startswith("nitro/v3, chain 42161, block ")


async def test_node_of_another_chain_or_none_is_told_and_stops_nothing(
    arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    arbitrum_proxy.alter = lambda method, result: "0x7" if method == "eth_chainId" else result
    other = await on_node(arbitrum_proxy, local_chains)
    assert (other.ok, other.blocks) == (False, False)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    chain = msgspec.structs.replace(local_chains.arbitrum, rpc_urls=(url, arbitrum_proxy.url))
    arbitrum_proxy.alter = names_itself("nitro/v3")
    found = await check_nodes([chain], timeout_seconds=30)
    assert [each.ok for each in found] == [False, True]
    assert not found[0].blocks


async def test_clock_that_is_behind_the_chain_is_refused_and_an_old_head_is_told(
    arbitrum_proxy: RpcProxy, local_chains: LocalChains
) -> None:
    seconds = round(datetime.now(UTC).timestamp())
    arbitrum_proxy.alter = names_itself("nitro", timestamp=hex(seconds + 3600))
    ahead = await on_node(arbitrum_proxy, local_chains)
    assert (ahead.ok, ahead.blocks) == (False, True)
    assert "clock" in ahead.remedy
    arbitrum_proxy.alter = names_itself("nitro", timestamp=hex(seconds - 3600))
    behind = await on_node(arbitrum_proxy, local_chains)
    assert (behind.ok, behind.blocks) == (False, False)


async def test_names_below_the_domain_and_the_gateways_own_are_looked_up() -> None:
    found = await check_names(
        settings(public_url="https://gateway.invalid", base_domain="apps.invalid")
    )
    assert [(each.name, each.ok, each.blocks) for each in found] == [
        ("name gateway.invalid", False, False),
        ("name *.apps.invalid", False, False),
    ]
    assert await check_names(settings(public_url="http://127.0.0.1:8402")) == []
    (own,) = await check_names(settings(public_url="http://localhost:8402"))
    assert own.ok
    assert "127.0.0.1" in own.detail


def test_port_of_the_gateway_of_this_directory_is_told_from_a_strangers(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener, (mine / "lock").open("w"):
        port = listener.getsockname()[1]
        assert gateway_holds(port, mine)
        assert not gateway_holds(port, other)
    assert not gateway_holds(port, mine)


def certificate(directory: Path, *names: str, days: int) -> tuple[Path, Path]:
    """A certificate for these names, and its key."""
    made, key = directory / f"{days}.pem", directory / f"{days}.key"
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days {days}"
    named = ",".join(f"DNS:{name}" for name in names)
    command = ["openssl", "req", *options.split(), "-addext", f"subjectAltName={named}"]
    command += ["-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def end_of(file: Path) -> str:
    """When a certificate ends, as openssl reads it."""
    command = ["openssl", "x509", "-in", str(file), "-noout", "-enddate"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().removeprefix("notAfter=")


@pytest.mark.parametrize("days", [1, 400, 20_000])
def test_certificate_says_its_names_and_its_end(tmp_path: Path, days: int) -> None:
    file, key = certificate(tmp_path, "*.apps.example", "apps.example", days=days)
    found = read_certificate(file, key)
    assert found.names == ("*.apps.example", "apps.example")
    end = datetime.fromtimestamp(found.not_after_ms / 1000, UTC)
    assert f"{end:%b} {end.day:2} {end:%H:%M:%S %Y} GMT" == end_of(file)


def test_certificate_of_another_key_or_none_is_invalid(tmp_path: Path) -> None:
    file, _ = certificate(tmp_path, "a.example", days=1)
    _, other = certificate(tmp_path, "a.example", days=2)
    with pytest.raises(CertificateInvalid, match="do not fit each other"):
        read_certificate(file, other)
    with pytest.raises(CertificateInvalid, match="cannot be read"):
        read_certificate(tmp_path / "missing", other)
    (tmp_path / "cut").write_text(file.read_text()[:200])
    with pytest.raises(CertificateInvalid, match="cannot be read"):
        read_certificate(tmp_path / "cut", other)
    (tmp_path / "other").write_text("no certificate")
    with pytest.raises(CertificateInvalid, match="cannot be read"):
        read_certificate(tmp_path / "other", other)


def lacking(now_ms: int = NOW_MS, **given: Any) -> dict[str, bool]:
    """What is wrong with a configuration, and whether a gateway starts without it."""
    usual = {"pay_to": PAY_TO, "chains": {"base": {"rpc_urls": ["https://node.example"]}}}
    found = check_configuration(settings(**usual | given), now_ms=now_ms)
    assert all(each.remedy for each in found if not each.ok)
    return {each.name: each.blocks for each in found if not each.ok}


def test_configuration_that_serve_would_refuse_is_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("11" * 32)
    key.chmod(0o644)
    nowhere = str(tmp_path / "nowhere")
    assert lacking() == {}
    assert lacking(pay_to="0x7ea5") == {"pay_to": True}
    assert lacking(chains={"other": {"rpc_urls": ["https://node.example"]}}) == {"chains": True}
    assert lacking(base_domain="Apps.Example") == {"domain Apps.Example": True}
    assert lacking(base_domain="a_b") == {"domain a_b": True}
    assert lacking(secrets_key_file=nowhere) == {"secrets key": True}
    assert lacking(secrets_key_file=str(key)) == {"secrets key": True}
    assert lacking(relayer_key_file=nowhere) == {"relayer key": True}
    assert lacking(relayer_key_file=str(key)) == {"relayer key": True}
    key.chmod(0o600)
    assert lacking(relayer_key_file=str(key), secrets_key_file=str(key)) == {}
    assert lacking(refund_key_file=str(key)) == {}
    of_pay_to = checksum_address(SigningKey("11" * 32).address)
    assert lacking(refund_key_file=str(key), pay_to=of_pay_to) == {"treasury": False}


def test_own_certificate_must_cover_the_apps_and_last(tmp_path: Path) -> None:
    files = tuple(map(str, certificate(tmp_path, "*.apps.example", days=30)))
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    days_ms = 24 * 3_600_000

    def told(after_days: int, domain: str = "apps.example") -> dict[str, bool]:
        return lacking(
            now_ms + after_days * days_ms, wildcard_certificate=files, base_domain=domain
        )

    assert told(1) == {}
    assert told(20) == {"wildcard certificate": False}
    assert told(31) == {"wildcard certificate": True}
    assert told(1, "other.example") == {"wildcard certificate": True}
    assert lacking(wildcard_certificate=files[:1]) == {"wildcard certificate": True}


async def test_wrong_chain_is_one_finding_and_no_failure(tmp_path: Path) -> None:
    found = await check_gateway(
        settings(data_dir=str(tmp_path), chains={"other": {"rpc_urls": ["https://node.example"]}}),
    )
    assert [each.ok for each in found if each.name == "chains"] == [False]
    assert not [each for each in found if each.name.startswith("node ")]
