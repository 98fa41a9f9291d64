"""Contract wallets on local chains: their code, their addresses before it, their signatures."""

import secrets

from eth_abi.abi import encode
from eth_account import Account

from moorage.chains.local.devchain import artifact
from support.chains.paying import calldata, rpc

MAGIC_BYTES = bytes.fromhex("6492" * 16)
"""What a wrapped signature ends with (ERC-6492)."""


async def put_code(rpc_url: str, runtime: str) -> str:
    """A fresh address that has this code."""
    address = "0x" + secrets.token_hex(20)
    await rpc(rpc_url, "anvil_setCode", address, runtime)
    return address


async def deployed_wallet(rpc_url: str, owner: str) -> str:
    """The address of a fresh wallet of `owner`."""
    wallet = await put_code(rpc_url, artifact().contracts["DevWallet"].runtime)
    await rpc(rpc_url, "anvil_setStorageAt", wallet, "0x0", "0x" + owner[2:].rjust(64, "0"))
    return wallet


class Counterfactual:
    """A wallet that a factory could deploy, and has not."""

    def __init__(self, factory: str, owner: str) -> None:
        self.factory = factory
        self.owner = owner
        self.salt = secrets.token_hex(32)
        self.address = ""

    @classmethod
    async def of(cls, rpc_url: str, owner: str) -> "Counterfactual":
        """One of `owner`'s, by a factory of its own."""
        factory = await put_code(rpc_url, artifact().contracts["DevWalletFactory"].runtime)
        wallet = cls(factory, owner)
        asked = calldata("addressOf(address,bytes32)", owner, wallet.salt)
        answer = await rpc(rpc_url, "eth_call", {"to": factory, "data": asked}, "latest")
        wallet.address = "0x" + answer[-40:]
        return wallet

    @property
    def creation(self) -> str:
        """The factory's calldata that deploys it."""
        return calldata("create(address,bytes32)", self.owner, self.salt)

    def wrap(self, signature: bytes) -> bytes:
        """A signature as it signs before it is deployed."""
        return wrapped(self.factory, bytes.fromhex(self.creation[2:]), signature)


def wrapped(factory: str, factory_calldata: bytes, signature: bytes) -> bytes:
    """ERC-6492: what the factory is to be called with, the signature, and the magic bytes."""
    content = encode(["address", "bytes", "bytes"], [factory, factory_calldata, signature])
    return content + MAGIC_BYTES


def sign_hash(private_key: str, digest: bytes) -> bytes:
    """The key's 65 bytes over these 32."""
    return bytes(Account.unsafe_sign_hash(digest, private_key).signature)
