"""`moorage`, to be paid by authorization without a chain: what is settled is believed at once.

The signature is checked as ever; its transaction is neither made, sent nor read.
"""

import sys
from typing import Any

from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import TransferAuthorization, signer_of
from moorage.cli.main import run
from moorage.ledger.ledger import Transfer
from moorage.payments.relay.settlements import Settlements
from moorage.payments.taking.verification import Verifier

_FAR_AHEAD = 2**40  # a block that nobody looks at again meanwhile

_read = Verifier.transfers
_settled: dict[str, TransferAuthorization] = {}


async def _settle(
    _: Settlements,
    *,
    chain: Chain,  # noqa: ARG001 (the real one's arguments)
    token: Token,
    authorization: TransferAuthorization,
    **_more: Any,
) -> str:
    assert token.authorization is not None
    assert signer_of(authorization, token.authorization) == authorization.payer
    _settled[authorization.nonce] = authorization
    return authorization.nonce  # 32 bytes of hex, as a transaction's hash


async def _transfers(
    verifier: Verifier, *, chain: Chain, token: Token, tx_hash: str, **more: Any
) -> tuple[Transfer, ...]:
    authorization = _settled.pop(tx_hash, None)
    if authorization is None:  # it is on the chain
        return await _read(verifier, chain=chain, token=token, tx_hash=tx_hash, **more)
    return (
        Transfer(
            chain_id=chain.chain_id,
            tx_hash=tx_hash,
            log_index=0,
            token=token.name,
            token_address=token.key,
            payer=authorization.payer,
            amount=authorization.value,
            decimals=token.decimals,
            block_number=_FAR_AHEAD,
            block_hash=tx_hash,
            recipient=authorization.recipient,
        ),
    )


def believe() -> None:
    """Has this process believe what is settled."""
    for replaced, name, instead in (
        (Settlements, "settle", _settle),
        (Verifier, "transfers", _transfers),
    ):
        setattr(replaced, name, instead)


if __name__ == "__main__":
    believe()
    sys.exit(run(sys.argv[1:]))
