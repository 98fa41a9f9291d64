import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.crypto import keccak
from starlette.datastructures import Headers

from moorage.auth.authenticator import Authenticator
from moorage.auth.nonces import NonceFile
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.auth.wallet import AT_ONCE, BOUND_RECIPE, RECIPE, ContractWallets, Wallet
from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.rpc import RpcClient, RpcError
from moorage.errors import (
    AuthError,
    AuthMissing,
    ChainUnavailable,
    InvalidField,
    NonceReused,
    RateLimited,
    SignatureInvalid,
    SignatureUnbound,
    TimestampExpired,
)
from moorage.signing import NO_BODY, Target
from support.clients.typed_request import content_digest_of, signed_typed_data

NOW_MS = 1_775_556_000_000
OWNER, STRANGER = Account.from_key("0x" + "11" * 32), Account.from_key("0x" + "22" * 32)
NONCE = "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e"


class StoppedClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_seconds(self) -> float:
        return 0.0


def signed(
    *,
    wallet: str = OWNER.address,
    timestamp: int | str = NOW_MS,
    nonce: str = NONCE,
    by: str = "0x" + "11" * 32,
) -> dict[str, str]:
    message = encode_defunct(text=f"{wallet}:{timestamp}:{nonce}")
    signature = "0x" + bytes(Account.sign_message(message, by).signature).hex()
    return {
        "x-wallet-address": wallet,
        "x-signature": signature,
        "x-timestamp": str(timestamp),
        "x-nonce": nonce,
    }


YES, NO = "0x" + "0" * 63 + "1", "0x" + "0" * 64


class Node(RpcClient):
    """A chain's node that gives one answer, and remembers what it was asked."""

    def __init__(self, name: str, answer: object) -> None:
        chain = KNOWN_CHAINS[name]
        super().__init__(msgspec.structs.replace(chain, rpc_urls=("http://127.0.0.1:1",)))
        self.answer = answer
        self.asked: list[tuple[str, Sequence[Any]]] = []

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        self.asked.append((method, params))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Door:
    """An authenticator whose chains' nodes say that no contract wallet signed."""

    def __init__(self, nonces: NonceFile, *, bound_only: bool = False) -> None:
        self.arbitrum, self.base = Node("arbitrum", NO), Node("base", NO)
        contracts = ContractWallets(
            {"arbitrum": self.arbitrum, "base": self.base},
            default_chain="arbitrum",
            limiter=MemoryRateLimiter(clock=StoppedClock(), limit=2),
        )
        self._authenticator = Authenticator(nonces, contracts=contracts, bound_only=bound_only)

    @property
    def asked(self) -> list[tuple[str, Sequence[Any]]]:
        """What the nodes were asked."""
        return self.arbitrum.asked + self.base.asked

    async def authenticate(
        self,
        headers: Mapping[str, str],
        *,
        target: Target | None = None,
        client: str = "192.0.2.1",
    ) -> Wallet:
        verified = await self._authenticator.verify(headers, target=target, client=lambda: client)
        await verified.use_nonce()
        return verified.wallet


def open_store(directory: Path) -> NonceFile:
    return NonceFile(directory, clock=StoppedClock(), boot="boot")


@pytest.fixture
async def nonces(tmp_path: Path) -> AsyncIterator[NonceFile]:
    store = open_store(tmp_path)
    yield store
    await store.close()


@pytest.fixture
def authenticator(nonces: NonceFile) -> Door:
    return Door(nonces)


async def test_signed_request_is_its_wallets(authenticator: Door) -> None:
    assert await authenticator.authenticate(signed()) == OWNER.address.lower()


@pytest.mark.parametrize("wallet", [OWNER.address.lower(), "0x" + OWNER.address[2:].upper()])
async def test_wallet_may_be_spelled_in_any_case(authenticator: Door, wallet: str) -> None:
    assert await authenticator.authenticate(signed(wallet=wallet)) == OWNER.address.lower()


@pytest.mark.parametrize("sent", [str.lower, str, lambda text: "0x" + text[2:].upper()])
@pytest.mark.parametrize("spelled", [str.lower, str])
async def test_signed_text_may_spell_the_wallet_in_lower_case_or_with_its_checksum(
    authenticator: Door, sent: Callable[[str], str], spelled: Callable[[str], str]
) -> None:
    headers = signed(wallet=spelled(OWNER.address)) | {"x-wallet-address": sent(OWNER.address)}
    assert await authenticator.authenticate(headers) == OWNER.address.lower()


async def test_header_names_compare_without_case(authenticator: Door) -> None:
    headers = Headers({name.upper(): value for name, value in signed().items()})
    assert await authenticator.authenticate(headers) == OWNER.address.lower()


@pytest.mark.parametrize("header", list(signed()))
async def test_signature_covers_every_header_as_sent(authenticator: Door, header: str) -> None:
    other = {
        "x-wallet-address": STRANGER.address,
        "x-signature": signed(nonce=NONCE[:-1] + "0")["x-signature"],
        "x-timestamp": f"0{NOW_MS}",
        "x-nonce": NONCE.upper(),
    }
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate({**signed(), header: other[header]})


async def test_one_wallet_cannot_sign_for_another(authenticator: Door) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(signed(by="0x" + "22" * 32))


async def test_missing_header_is_auth_missing(authenticator: Door) -> None:
    with pytest.raises(AuthMissing):
        await authenticator.authenticate({})


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        ("X-Wallet-Address", "0x12"),
        ("X-Signature", "0x12zz"),
        ("X-Timestamp", "yesterday"),
        ("X-Timestamp", str(NOW_MS - 60_001)),
        ("X-Nonce", "1"),
    ],
)
async def test_refusal_names_the_header_that_is_wrong_or_missing(
    authenticator: Door, header: str, wrong: str
) -> None:
    for changed in ({header.lower(): wrong}, {header.lower(): ""}):
        with pytest.raises(AuthError) as refused:
            await authenticator.authenticate(signed() | changed)
        assert refused.value.header == header
        assert header in refused.value.message


async def test_refused_signature_is_told_the_text_that_it_should_sign(
    authenticator: Door,
) -> None:
    with pytest.raises(SignatureInvalid, match=f"{OWNER.address}:{NOW_MS}:{NONCE}"):
        await authenticator.authenticate(signed(by="0x" + "22" * 32))


def compact(signature: str) -> str:
    """The 64 bytes of EIP-2098: r, then s with the parity of y as its highest bit."""
    r_and_s, v = bytes.fromhex(signature[2:130]), int(signature[130:], 16)
    high = r_and_s[32] | (0x80 if v == 28 else 0)
    return "0x" + (r_and_s[:32] + bytes([high]) + r_and_s[33:]).hex()


@pytest.mark.parametrize("nonce", [f"{number:08x}{NONCE[8:]}" for number in range(4)])
async def test_compact_signature_is_told_as_such_and_asks_no_chain(
    authenticator: Door, nonce: str
) -> None:
    headers = signed(nonce=nonce)
    short = headers | {"x-signature": compact(headers["x-signature"])}
    with pytest.raises(SignatureInvalid, match="65 bytes"):
        await authenticator.authenticate(short)
    assert authenticator.asked == []


async def test_contract_that_has_not_signed_is_told_where_it_was_asked(
    authenticator: Door,
) -> None:
    with pytest.raises(SignatureInvalid, match=r"X-Wallet-Chain names its chain; base was asked"):
        await authenticator.authenticate(by_contract() | {"x-wallet-chain": "base"})


async def test_recipe_of_a_401_signs_as_the_library_of_others_does() -> None:
    example = RECIPE.example
    text = RECIPE.text.format_map(example)
    again = Account.sign_message(encode_defunct(text=text), RECIPE.example_private_key)
    assert example["X-Signature"] == again.signature.to_0x_hex()
    assert example["X-Wallet-Address"] == Account.from_key(RECIPE.example_private_key).address
    assert example.keys() == RECIPE.headers.keys()
    for part in (RECIPE.example_private_key, text, example["X-Signature"]):
        assert f"`{part}`" in (Path(__file__).parents[3] / "docs/use/signing.md").read_text()


async def test_recipe_for_what_moves_money_or_power_signs_as_the_library_of_others_does() -> None:
    example = BOUND_RECIPE.example
    again = signed_typed_data(
        BOUND_RECIPE.example_private_key,
        wallet=example["X-Wallet-Address"],
        host="moorage.example",
        method="POST",
        path="/agent/projects/my-app/adopt",
        body_digest=sha256(b"").digest(),
        timestamp=int(example["X-Timestamp"]),
        nonce=example["X-Nonce"],
    )
    assert example["X-Signature"] == again
    assert example["Content-Digest"] == content_digest_of(b"")
    assert example.keys() == BOUND_RECIPE.headers.keys()


async def test_replayed_request_is_nonce_reused(authenticator: Door) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed())


async def test_same_uuid_in_other_case_is_the_same_nonce(authenticator: Door) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed(nonce=NONCE.upper()))


async def test_same_wallet_in_other_case_has_the_same_nonces(authenticator: Door) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed(wallet=OWNER.address.lower()))


async def test_forged_request_burns_nobodys_nonce(authenticator: Door, nonces: NonceFile) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(signed(by="0x" + "22" * 32))
    assert len(nonces) == 0
    await authenticator.authenticate(signed())


async def test_one_of_concurrent_requests_passes(authenticator: Door) -> None:
    results = await asyncio.gather(
        *(authenticator.authenticate(signed()) for _ in range(10)), return_exceptions=True
    )
    assert results[0] == OWNER.address.lower()
    assert [type(result) for result in results[1:]] == [NonceReused] * 9


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001])
async def test_timestamp_is_judged_before_the_signature(
    authenticator: Door, offset_ms: int
) -> None:
    with pytest.raises(TimestampExpired):
        await authenticator.authenticate(
            {**signed(timestamp=NOW_MS + offset_ms), "x-signature": "0x" + "00" * 65}
        )


async def test_timestamp_in_seconds_is_told_as_such(authenticator: Door) -> None:
    with pytest.raises(TimestampExpired, match="seconds: send milliseconds"):
        await authenticator.authenticate(signed(timestamp=NOW_MS // 1000))


@pytest.mark.parametrize("offset_ms", [-60_000, 0, 60_000])
async def test_replay_over_a_restart_is_nonce_reused(tmp_path: Path, offset_ms: int) -> None:
    request = signed(timestamp=NOW_MS + offset_ms)
    before = open_store(tmp_path)
    await Door(before).authenticate(request)
    await before.close()

    after = open_store(tmp_path)
    with pytest.raises(NonceReused):
        await Door(after).authenticate(request)
    fresh = signed(timestamp=NOW_MS + offset_ms, nonce=NONCE[:-1] + "0")
    await Door(after).authenticate(fresh)
    await after.close()


# Contract wallets


def by_contract(signature: str = "0x" + "5a" * 300, **changes: Any) -> dict[str, str]:
    return signed(**changes) | {"x-signature": signature}


async def test_signature_of_the_wallets_key_asks_no_chain(authenticator: Door) -> None:
    await authenticator.authenticate(signed() | {"x-wallet-chain": "nowhere"})

    assert authenticator.asked == []


@pytest.mark.parametrize(
    "signature",
    [
        "0x" + "5a" * 300,
        signed(by="0x" + "22" * 32)["x-signature"],
        signed()["x-signature"][:-2] + "1f",  # v as wallets write it that sign with eth_sign
    ],
)
async def test_what_no_key_of_the_wallet_signed_a_chain_decides(
    authenticator: Door, signature: str
) -> None:
    authenticator.arbitrum.answer = YES

    wallet = await authenticator.authenticate(by_contract(signature))

    assert wallet == OWNER.address.lower()
    ((method, (transaction, block)),) = authenticator.asked
    assert (method, block) == ("eth_call", "latest")
    assert transaction.keys() == {"from", "gas", "data"}  # no `to`: it deploys nothing
    hashed = encode_defunct(text=f"{OWNER.address}:{NOW_MS}:{NONCE}")
    digest = keccak(b"\x19" + hashed.version + hashed.header + hashed.body)
    assert digest.hex() in transaction["data"]
    assert signature[2:] in transaction["data"]


async def test_contract_wallet_that_says_no_has_not_signed(
    authenticator: Door, nonces: NonceFile
) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(by_contract())

    assert len(authenticator.asked) == 1
    assert len(nonces) == 0


async def test_named_chain_is_the_one_that_is_asked(authenticator: Door) -> None:
    authenticator.base.answer = YES

    await authenticator.authenticate(by_contract() | {"x-wallet-chain": " Base "})

    assert (len(authenticator.arbitrum.asked), len(authenticator.base.asked)) == (0, 1)


async def test_unknown_chain_is_named_and_none_is_asked(authenticator: Door) -> None:
    with pytest.raises(InvalidField, match="arbitrum, base") as refused:
        await authenticator.authenticate(by_contract() | {"x-wallet-chain": "solana"})

    assert refused.value.field == "X-Wallet-Chain"
    assert authenticator.asked == []


async def test_chains_are_asked_for_one_client_so_often_and_for_others_still(
    authenticator: Door,
) -> None:
    for _ in range(2):
        with pytest.raises(SignatureInvalid):
            await authenticator.authenticate(by_contract())
    with pytest.raises(RateLimited):
        await authenticator.authenticate(by_contract())
    assert len(authenticator.asked) == 2

    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(by_contract(), client="192.0.2.2")
    await authenticator.authenticate(signed())  # a key's signature is not affected


async def test_contract_wallets_nonce_is_used_once(authenticator: Door) -> None:
    authenticator.arbitrum.answer = YES
    await authenticator.authenticate(by_contract())

    with pytest.raises(NonceReused):
        await authenticator.authenticate(by_contract())


@pytest.mark.parametrize(
    "answer",
    [
        ChainUnavailable(),
        RpcError("eth_call", -32005, "limit exceeded"),
        None,
        "0x",
        "0x1",
        "0x" + "0" * 63 + "2",
        "0x" + "f" * 64,
        YES + "0" * 64,
    ],
)
async def test_chain_that_does_not_say_leaves_the_nonce_unused(
    authenticator: Door, nonces: NonceFile, answer: object
) -> None:
    authenticator.arbitrum.answer = answer
    with pytest.raises(ChainUnavailable):
        await authenticator.authenticate(by_contract())
    assert len(nonces) == 0

    authenticator.arbitrum.answer = YES
    await authenticator.authenticate(by_contract())


async def test_chains_are_asked_no_more_than_so_much_at_once(nonces: NonceFile) -> None:
    class Slow(Node):
        under_way = most = 0

        async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
            return YES

    node = Slow("base", YES)
    contracts = ContractWallets(
        {"base": node},
        default_chain="base",
        limiter=MemoryRateLimiter(clock=StoppedClock(), limit=100),
    )

    answers = await asyncio.gather(
        *(
            contracts.accept(Wallet("0x" + "0a" * 20), bytes(32), b"1", chain=None, client="x")
            for _ in range(3 * AT_ONCE)
        )
    )

    assert answers == [True] * 3 * AT_ONCE
    assert node.most == AT_ONCE


# Bound signatures

TARGET = Target(
    host="gateway.example", method="POST", path="/agent/quote?a=b%20c", body_digest=NO_BODY
)


def bound(target: Target = TARGET, *, wallet: str = OWNER.address) -> dict[str, str]:
    signature = signed_typed_data(
        "0x" + "11" * 32,
        wallet=wallet,
        host=target.host,
        method=target.method,
        path=target.path,
        body_digest=target.body_digest,
        timestamp=NOW_MS,
        nonce=NONCE,
    )
    return signed(wallet=wallet) | {"x-signature": signature}


async def test_bound_request_is_its_wallets(authenticator: Door) -> None:
    assert await authenticator.authenticate(bound(), target=TARGET) == OWNER.address.lower()
    with pytest.raises(NonceReused):
        await authenticator.authenticate(bound(), target=TARGET)


@pytest.mark.parametrize(
    "other",
    [
        {"host": "gateway.example:8402"},
        {"host": "other.example"},
        {"method": "DELETE"},
        {"path": "/agent/quote"},
        {"path": "/agent/deploy?a=b%20c"},
        {"path": "/agent/quote?a=b c"},
        {"body_digest": bytes(32)},
    ],
)
async def test_bound_signature_is_good_for_nothing_else(
    authenticator: Door, other: dict[str, Any]
) -> None:
    elsewhere = msgspec.structs.replace(TARGET, **other)
    with pytest.raises(SignatureInvalid, match=r"gateway\.example|other\.example"):
        await authenticator.authenticate(bound(), target=elsewhere)
    await authenticator.authenticate(bound(), target=TARGET)


async def test_bound_signature_of_one_wallet_is_not_anothers(authenticator: Door) -> None:
    other = bound(wallet=STRANGER.address) | {"x-wallet-address": OWNER.address}
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(other, target=TARGET)


async def test_neither_version_passes_for_the_other(authenticator: Door) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(bound())
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(signed(), target=TARGET)


async def test_contract_wallet_may_be_asked_about_a_bound_request(authenticator: Door) -> None:
    authenticator.arbitrum.answer = YES

    await authenticator.authenticate(by_contract(), target=TARGET)

    ((_, (transaction, _)),) = authenticator.asked
    signed_bytes = TARGET.digest(wallet=OWNER.address.lower(), timestamp_ms=NOW_MS, nonce=NONCE)
    assert signed_bytes.hex() in transaction["data"]


async def test_where_signatures_must_be_bound_the_first_version_is_refused_unspent(
    nonces: NonceFile,
) -> None:
    door = Door(nonces, bound_only=True)
    with pytest.raises(SignatureUnbound):
        await door.authenticate(signed())
    with pytest.raises(AuthMissing):
        await door.authenticate({})

    await door.authenticate(bound(), target=TARGET)
