import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from starlette.datastructures import Headers

from moorage.auth.authenticator import Authenticator
from moorage.auth.nonces import NonceStore
from moorage.errors import AuthMissing, NonceReused, SignatureInvalid, TimestampExpired

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


def open_store(directory: Path) -> NonceStore:
    return NonceStore.open(directory, clock=StoppedClock(), boot_id="boot")


@pytest.fixture
async def nonces(tmp_path: Path) -> AsyncIterator[NonceStore]:
    store = open_store(tmp_path)
    yield store
    await store.close()


@pytest.fixture
def authenticator(nonces: NonceStore) -> Authenticator:
    return Authenticator(nonces)


async def test_signed_request_is_its_wallets(authenticator: Authenticator) -> None:
    assert await authenticator.authenticate(signed()) == OWNER.address.lower()


@pytest.mark.parametrize("wallet", [OWNER.address.lower(), "0x" + OWNER.address[2:].upper()])
async def test_wallet_may_be_spelled_in_any_case(authenticator: Authenticator, wallet: str) -> None:
    assert await authenticator.authenticate(signed(wallet=wallet)) == OWNER.address.lower()


async def test_header_names_compare_without_case(authenticator: Authenticator) -> None:
    headers = Headers({name.upper(): value for name, value in signed().items()})
    assert await authenticator.authenticate(headers) == OWNER.address.lower()


@pytest.mark.parametrize("header", list(signed()))
async def test_signature_covers_every_header_as_sent(
    authenticator: Authenticator, header: str
) -> None:
    other = {
        "x-wallet-address": OWNER.address.lower(),
        "x-signature": signed(nonce=NONCE[:-1] + "0")["x-signature"],
        "x-timestamp": f"0{NOW_MS}",
        "x-nonce": NONCE.upper(),
    }
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate({**signed(), header: other[header]})


async def test_one_wallet_cannot_sign_for_another(authenticator: Authenticator) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(signed(by="0x" + "22" * 32))


async def test_missing_header_is_auth_missing(authenticator: Authenticator) -> None:
    with pytest.raises(AuthMissing):
        await authenticator.authenticate({})


async def test_replayed_request_is_nonce_reused(authenticator: Authenticator) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed())


async def test_same_uuid_in_other_case_is_the_same_nonce(authenticator: Authenticator) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed(nonce=NONCE.upper()))


async def test_same_wallet_in_other_case_has_the_same_nonces(authenticator: Authenticator) -> None:
    await authenticator.authenticate(signed())
    with pytest.raises(NonceReused):
        await authenticator.authenticate(signed(wallet=OWNER.address.lower()))


async def test_forged_request_burns_nobodys_nonce(
    authenticator: Authenticator, nonces: NonceStore
) -> None:
    with pytest.raises(SignatureInvalid):
        await authenticator.authenticate(signed(by="0x" + "22" * 32))
    assert len(nonces) == 0
    await authenticator.authenticate(signed())


async def test_one_of_concurrent_requests_passes(authenticator: Authenticator) -> None:
    results = await asyncio.gather(
        *(authenticator.authenticate(signed()) for _ in range(10)), return_exceptions=True
    )
    assert results[0] == OWNER.address.lower()
    assert [type(result) for result in results[1:]] == [NonceReused] * 9


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001])
async def test_timestamp_is_judged_before_the_signature(
    authenticator: Authenticator, offset_ms: int
) -> None:
    with pytest.raises(TimestampExpired):
        await authenticator.authenticate(
            {**signed(timestamp=NOW_MS + offset_ms), "x-signature": "0x" + "00" * 65}
        )


async def test_timestamp_in_seconds_is_expired(authenticator: Authenticator) -> None:
    with pytest.raises(TimestampExpired):
        await authenticator.authenticate(signed(timestamp=NOW_MS // 1000))


@pytest.mark.parametrize("offset_ms", [-60_000, 0, 60_000])
async def test_replay_over_a_restart_is_nonce_reused(tmp_path: Path, offset_ms: int) -> None:
    request = signed(timestamp=NOW_MS + offset_ms)
    before = open_store(tmp_path)
    await Authenticator(before).authenticate(request)
    await before.close()

    after = open_store(tmp_path)
    with pytest.raises(NonceReused):
        await Authenticator(after).authenticate(request)
    fresh = signed(timestamp=NOW_MS + offset_ms, nonce=NONCE[:-1] + "0")
    await Authenticator(after).authenticate(fresh)
    await after.close()
