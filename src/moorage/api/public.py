"""What anybody may ask: balances, chains, and whether the gateway answers."""

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import limit_address
from moorage.api.http.problems import json_response
from moorage.api.services import Gateway
from moorage.chains.address import checksum_address, parse_address
from moorage.chains.balances import token_balances
from moorage.errors import InvalidField
from moorage.money import decimal_text
from moorage.payments.protocols.demand import chain_body
from moorage.payments.protocols.evidence import named_chain
from moorage.wire.public import Balances, ChainItem, ChainList, Health, TokenBalance


async def balance(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/balance/{address}`: token balances on one chain."""
    await limit_address(gateway, request)
    try:
        address = parse_address(request.path_params["address"])
    except ValueError as error:
        raise InvalidField("address", "must be 0x and 40 hex digits") from error
    chain = named_chain(request.query_params.get("chain"), gateway.chains, field="chain")
    async with gateway.balance_questions.one():
        found = await token_balances(gateway.clients[chain.name], chain, address)
    return json_response(
        Balances(
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
    )


async def chains(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/chains`: the chains that payments are taken on."""
    await limit_address(gateway, request)
    listed = [ChainItem(**chain_body(chain)) for chain in gateway.chains.values()]
    return json_response(ChainList(chains=listed))


async def health(_gateway: Gateway, _request: Request) -> Response:
    """`GET /health`: the process answers."""
    return json_response(Health())
