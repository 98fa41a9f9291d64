"""Sign-in-with-X: the text that is signed is written out here as EIP-4361 shows it."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from moorage.auth.authenticator import MAX_HEADER_BYTES, Authenticator
from moorage.auth.nonces import NonceFile
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.auth.wallet import ContractWallets
from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.rpc import RpcClient
from moorage.errors import AuthError, NonceReused, SignatureInvalid, SignatureUnbound
from moorage.errors import TimestampExpired as Expired

NOW_MS = 1_775_556_000_000  # 2026-04-07T10:00:00Z
KEY = "0x" + "11" * 32
ADDRESS = Account.from_key(KEY).address
URL = "https://gateway.example.com"
TEXT = f"""\
gateway.example.com wants you to sign in with your Ethereum account:
{ADDRESS}

Manage my apps.

URI: https://gateway.example.com/agent/projects
Version: 1
Chain ID: 8453
Nonce: 32891756a1b2c3d4
Issued At: 2026-04-07T10:00:00Z
Expiration Time: 2026-04-07T10:05:00Z
Not Before: 2026-04-07T09:59:00Z
Request ID: 7
Resources:
- https://example.com/one
- https://example.com/two"""
MEMBERS: dict[str, Any] = {
    "domain": "gateway.example.com",
    "address": ADDRESS,
    "statement": "Manage my apps.",
    "uri": "https://gateway.example.com/agent/projects",
    "version": "1",
    "chainId": "eip155:8453",
    "type": "eip191",
    "nonce": "32891756a1b2c3d4",
    "issuedAt": "2026-04-07T10:00:00Z",
    "expirationTime": "2026-04-07T10:05:00Z",
    "notBefore": "2026-04-07T09:59:00Z",
    "requestId": "7",
    "resources": ["https://example.com/one", "https://example.com/two"],
}
BARE_TEXT = f"""\
gateway.example.com wants you to sign in with your Ethereum account:
{ADDRESS}


URI: https://gateway.example.com/agent/projects
Version: 1
Chain ID: 8453
Nonce: 32891756a1b2c3d4
Issued At: 2026-04-07T10:00:00Z"""
_OPTIONAL = {"statement", "expirationTime", "notBefore", "requestId", "resources"}
BARE = {name: value for name, value in MEMBERS.items() if name not in _OPTIONAL}


class StoppedClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_seconds(self) -> float:
        return 0.0


class Node(RpcClient):
    """A chain's node that says of every contract wallet that it signed."""

    def __init__(self) -> None:
        super().__init__(msgspec.structs.replace(KNOWN_CHAINS["base"], rpc_urls=("http://x",)))

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        return "0x" + "0" * 63 + "1"


class Door:
    def __init__(self, nonces: NonceFile, *, bound_only: bool = False) -> None:
        limiter = MemoryRateLimiter(clock=StoppedClock(), limit=2)
        contracts = ContractWallets({"base": Node()}, default_chain="base", limiter=limiter)
        self._authenticator = Authenticator(nonces, contracts=contracts, bound_only=bound_only)

    async def wallet(self, header: str) -> str:
        verified = await self._authenticator.verify_sign_in(
            header, public_url=URL, now_ms=NOW_MS, client=lambda: "192.0.2.1"
        )
        await verified.use_nonce()
        return verified.wallet


@pytest.fixture
async def nonces(tmp_path: Path) -> AsyncIterator[NonceFile]:
    store = NonceFile(tmp_path, clock=StoppedClock(), boot="boot")
    yield store
    await store.close()


@pytest.fixture
def door(nonces: NonceFile) -> Door:
    return Door(nonces)


def signed(text: str, members: dict[str, Any], key: str = KEY) -> str:
    signature = "0x" + bytes(Account.sign_message(encode_defunct(text=text), key).signature).hex()
    return encoded(members | {"signature": signature})


def encoded(members: object) -> str:
    return base64.b64encode(json.dumps(members).encode()).decode()


@pytest.mark.parametrize(("text", "members"), [(TEXT, MEMBERS), (BARE_TEXT, BARE)])
async def test_signed_text_is_its_wallets_once(
    door: Door, text: str, members: dict[str, Any]
) -> None:
    header = signed(text, members)
    assert await door.wallet(header) == ADDRESS.lower()
    with pytest.raises(NonceReused):
        await door.wallet(header)


@pytest.mark.parametrize(
    ("text", "member", "value", "error"),
    [
        ("gateway.example.com wants", "domain", "other.example.com", SignatureInvalid),
        ("gateway.example.com wants", "domain", "gateway.example.com.evil", SignatureInvalid),
        ("https://gateway.example.com/agent", "uri", "https://evil.example/x", SignatureInvalid),
        (
            "https://gateway.example.com/agent",
            "uri",
            "http://gateway.example.com",
            SignatureInvalid,
        ),
        ("https://gateway.example.com/agent", "uri", "https://[", SignatureInvalid),
        ("Version: 1", "version", "2", SignatureInvalid),
        ("8453", "chainId", "eip155:0", SignatureInvalid),
        ("8453", "chainId", "solana:1", SignatureInvalid),
        ("", "type", "ed25519", SignatureInvalid),
        ("32891756a1b2c3d4", "nonce", "short", SignatureInvalid),
        ("32891756a1b2c3d4", "nonce", "32891756-a1b2c3d4", SignatureInvalid),
        ("2026-04-07T10:00:00Z", "issuedAt", "2026-04-07T09:58:59Z", Expired),
        ("2026-04-07T10:00:00Z", "issuedAt", "2026-04-07T10:01:01Z", Expired),
        ("2026-04-07T10:00:00Z", "issuedAt", "2026-04-07T10:00:00", Expired),
        ("2026-04-07T10:00:00Z", "issuedAt", "now", Expired),
        ("2026-04-07T10:05:00Z", "expirationTime", "2026-04-07T10:00:00Z", Expired),
        ("2026-04-07T09:59:00Z", "notBefore", "2026-04-07T10:00:01Z", Expired),
    ],
)
async def test_sign_in_for_elsewhere_or_another_time_is_refused_though_it_is_signed(
    door: Door, text: str, member: str, value: str, error: type[AuthError]
) -> None:
    changed = TEXT.replace(text, value.removeprefix("eip155:"), 1) if text else TEXT
    with pytest.raises(error) as refused:
        await door.wallet(signed(changed, MEMBERS | {member: value}))
    assert refused.value.header == "SIGN-IN-WITH-X"


@pytest.mark.parametrize("member", [*MEMBERS])
async def test_member_that_was_not_signed_so_is_refused(nonces: NonceFile, member: str) -> None:
    """No node is asked about a key's wallet whose chain is not taken."""
    members = MEMBERS | {"chainId": "eip155:1"}
    other: dict[str, Any] = {
        "domain": "GATEWAY.example.com",
        "address": ADDRESS.lower(),
        "uri": URL,
        "chainId": "eip155:10",
        "issuedAt": "2026-04-07T10:00:01Z",
        "expirationTime": "2026-04-07T10:06:00Z",
        "notBefore": "2026-04-07T09:58:00Z",
        "resources": [],
        "version": "2",
        "type": "siws",
    }
    header = signed(TEXT.replace("8453", "1"), members | {member: other.get(member, "abcdefgh1")})
    with pytest.raises(SignatureInvalid):
        await Door(nonces).wallet(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "%",
        "e30=",
        encoded([]),
        encoded(MEMBERS),
        encoded(MEMBERS | {"signature": 7}),
        encoded(MEMBERS | {"signature": "0xzz"}),
        encoded(MEMBERS | {"signature": ""}),
        encoded(MEMBERS | {"signature": "0x" + "1b" * 65, "chainId": "eip155:1"}),
        encoded(MEMBERS | {"signature": "0x" + "1b" * 65, "address": "0x12"}),
        encoded(MEMBERS | {"signature": "0x" + "1b" * 65, "statement": "a\nURI: https://b"}),
        encoded(MEMBERS | {"signature": "0x" + "1b" * 65, "resources": ["a\nb"]}),
        base64.b64encode(b"[" * 5000).decode(),
        "A" * (MAX_HEADER_BYTES + 4),
    ],
)
async def test_header_that_says_no_such_thing_is_refused(door: Door, header: str) -> None:
    with pytest.raises(SignatureInvalid):
        await door.wallet(header)


async def test_another_keys_signature_is_refused(nonces: NonceFile) -> None:
    text, members = TEXT.replace("8453", "1"), MEMBERS | {"chainId": "eip155:1"}
    with pytest.raises(SignatureInvalid):
        await Door(nonces).wallet(signed(text, members, "0x" + "22" * 32))


async def test_contract_wallet_is_asked_on_the_chain_that_the_text_names(door: Door) -> None:
    assert await door.wallet(signed(TEXT, MEMBERS, "0x" + "22" * 32)) == ADDRESS.lower()


async def test_gateway_that_takes_bound_signatures_alone_takes_none(nonces: NonceFile) -> None:
    with pytest.raises(SignatureUnbound):
        await Door(nonces, bound_only=True).wallet(signed(TEXT, MEMBERS))
