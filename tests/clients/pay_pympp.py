"""pympp: the Machine Payments Protocol, method evm, by an EIP-3009 authorization."""

import asyncio

from agent import ACCOUNT, GIVEN, SigningTransport, deploy
from mpp.client import PaymentTransport
from mpp.methods.evm import EvmAsset
from mpp.methods.evm import client as evm

token = EvmAsset(
    address=GIVEN["token"],
    decimals=6,
    chain_id=GIVEN["chainId"],
    name="USD Coin",
    version="2",
)
method = evm.charge(currency=token, account=ACCOUNT, max_amount="1")
asyncio.run(deploy(PaymentTransport([method], inner=SigningTransport())))
