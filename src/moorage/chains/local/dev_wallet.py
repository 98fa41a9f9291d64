"""The wallets of a local chain: new ones for each data directory, worth nothing elsewhere."""

from pathlib import Path

import coincurve
import msgspec

from moorage.chains.address import checksum_address, key_address
from moorage.errors import LocalChainFailed
from moorage.whole_file import create_file

PAYING_WALLETS = 8


class DevWallet(msgspec.Struct, frozen=True):
    """A wallet that anybody on this machine can pay with."""

    address: str  # checksummed
    private_key: str  # 0x and 64 hex digits


class DevWallets(msgspec.Struct, frozen=True):
    """The wallets that a local chain funds."""

    pay_to: DevWallet  # receives payments
    relayer: DevWallet  # settles authorizations; needs gas, no tokens
    wallets: tuple[DevWallet, ...]  # make payments; each has gas and tokens


def dev_wallets(path: Path) -> DevWallets:
    """Returns the wallets stored in `path`; creates random ones if the file is missing.

    The file is private to its owner (mode 0600) and is created atomically, also if two processes
    do so at once. Raises LocalChainFailed if it contains no wallets.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_file(path, msgspec.json.format(msgspec.json.encode(_new_wallets()), indent=1))
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevWallets)
    except msgspec.DecodeError as problem:
        raise LocalChainFailed(f"{path} holds no wallets; `moorage dev --reset`") from problem


def address_of(private_key: bytes) -> str:
    """Returns the checksummed address of a 32-byte private key. Raises ValueError otherwise."""
    key = coincurve.PublicKey.from_valid_secret(private_key)
    return checksum_address(key_address(key.format(compressed=False)))


def _new_wallets() -> DevWallets:
    return DevWallets(
        pay_to=_new_wallet(),
        relayer=_new_wallet(),
        wallets=tuple(_new_wallet() for _ in range(PAYING_WALLETS)),
    )


def _new_wallet() -> DevWallet:
    key = coincurve.PrivateKey().secret  # of os.urandom, within the curve's order
    return DevWallet(address=address_of(key), private_key="0x" + key.hex())
