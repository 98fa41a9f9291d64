"""The endpoints that anybody may call: balances, chains, and the health check."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address, parse_address
from moorage.api.http.caller import Front, limit_address
from moorage.api.http.problems import json_response
from moorage.chains.balances import ConcurrencyLimit, token_balances
from moorage.chains.rpc import RpcClient
from moorage.errors import InvalidField
from moorage.hosting.entrance.capacity import Capacity
from moorage.money import decimal_text, usd_number
from moorage.payments.protocols.evidence import named_chain
from moorage.payments.taking.payment_required import Seller, chain_body
from moorage.records.size import Sizes
from moorage.wire.public import (
    Balances,
    ChainList,
    ChainTaken,
    Health,
    SizeItem,
    SizeList,
    TokenBalance,
)

INSTANCE_HEADER = "Moorage-Gateway"
"""In a request of `GET /health` it asks which gateway answers; in the answer it says so."""


@dataclass(frozen=True, kw_only=True)
class PublicRoom(Front):
    """What the handlers of public endpoints need."""

    seller: Seller
    sizes: Sizes
    capacity: Capacity
    clients: Mapping[str, RpcClient]  # by the chain's name
    balance_limit: ConcurrencyLimit
    # What tells gateways apart; None where one is alone.
    instance_token: Callable[[], Awaitable[str]] | None


async def balance(room: PublicRoom, request: Request) -> Balances:
    """`GET /agent/balance/{address}`: token balances on one chain."""
    await limit_address(room, request)
    with InvalidField.of("address", "must be 0x and 40 hex digits"):
        address = parse_address(request.path_params["address"])
    chain = named_chain(request.query_params.get("chain"), room.chains, field="chain")
    async with room.balance_limit.slot():
        found = await token_balances(room.clients[chain.name], chain, address)
    return Balances(
        address=checksum_address(address),
        chain=chain.name,
        chain_id=chain.chain_id,
        balances=[
            TokenBalance(
                token=token.name,
                symbol=token.symbol,
                address=token.address,
                balance=decimal_text(amount, decimals=token.decimals),
                balance_raw=str(amount),
                decimals=token.decimals,
            )
            for token, amount in found
        ],
    )


async def chains(room: PublicRoom, request: Request) -> ChainList:
    """`GET /agent/chains`: the chains that payments are taken on."""
    await limit_address(room, request)
    seller = room.seller
    return ChainList(
        chains=[
            ChainTaken(**chain_body(chain), payment_protocols=seller.protocols(chain))
            for chain in seller.chains
        ]
    )


async def sizes(room: PublicRoom, request: Request) -> SizeList:
    """`GET /agent/sizes`: what an app can be, and what that costs."""
    await limit_address(room, request)
    return SizeList(
        sizes=[
            SizeItem(
                name=each.name,
                memory_mib=each.memory_mib,
                cpu_millis=each.cpu_millis,
                disk_mib=each.disk_mib,
                volume_mib=each.volume_mib,
                usd_month=usd_number(each.month),
                usd_month_asleep=usd_number(each.asleep_month),
                available=await room.capacity.has_room(each),
            )
            for each in room.sizes.listed
            if each.sold
        ]
    )


async def health(room: PublicRoom, request: Request) -> Response:
    """`GET /health`: the process answers."""
    if room.instance_token is None or INSTANCE_HEADER not in request.headers:
        return json_response(Health())
    headers = ((INSTANCE_HEADER, await room.instance_token()), ("Cache-Control", "no-store"))
    return json_response(Health(), headers=headers)
