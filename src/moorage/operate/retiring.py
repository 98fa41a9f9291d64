"""Gives up a former `pay_to` or `base_domain`, once nothing depends on it."""

import msgspec

from moorage.chains.balances import token_balances
from moorage.clock import SystemClock
from moorage.errors import ConfigurationInvalid, InvalidField, MoorageError
from moorage.money import decimal_text
from moorage.operate.books import OpenBooks, note_act
from moorage.storage.money import settlements
from moorage.storage.operation import configuration
from moorage.storage.operation.configuration import BASE_DOMAINS, RECIPIENTS, Former


class Holding(msgspec.Struct, frozen=True):
    """What an address has of a token, as a decimal."""

    chain: str
    token: str
    amount: str


class RecipientSeen(msgspec.Struct, frozen=True):
    """An address that is or was `pay_to`, and what it holds now."""

    address: str
    since_ms: int
    retired_at_ms: int | None
    is_pay_to: bool
    holds: list[Holding]  # without tokens of which it has nothing


async def recipients(books: OpenBooks) -> list[RecipientSeen]:
    """Returns every address that was ever `pay_to`. Raises ChainUnavailable."""
    return [
        RecipientSeen(
            address=each.value,
            since_ms=each.since_ms,
            retired_at_ms=each.retired_at_ms,
            is_pay_to=each.value == books.pay_to,
            holds=await _holdings(books, each.value),
        )
        for each in await RECIPIENTS.every(books.db)
    ]


async def retire_recipient(books: OpenBooks, address: str, *, reason: str) -> None:
    """Has payments to a former `pay_to` credited no more.

    Raises ConfigurationInvalid while it is `pay_to`, holds a token, or money is on its way on any
    chain; InvalidField for an address that is not known; ChainUnavailable.
    """
    if address == books.pay_to:
        raise ConfigurationInvalid(f"{address} is pay_to: set another first, and start with it.")
    if not books.chains or len(books.clients) < len(books.chains):
        raise ConfigurationInvalid("A chain does not run, so nobody knows what it holds there.")
    await _require_empty(books, address)
    async with books.db.transaction(durable=True) as tx:
        open_ = await settlements.unsettled_by_token(tx)
        if open_:
            raise ConfigurationInvalid(
                f"Not all is final yet ({open_[0].what}): try again within the hour."
            )
        if not await RECIPIENTS.retire(tx, address, at_ms=SystemClock().now_ms()):
            raise InvalidField(address, "was never pay_to here, or is retired already")
        await note_act(tx, books.operator, "recipient retire", address, reason=reason)
    try:
        await _require_empty(books, address)  # what came meanwhile is still watched
    except MoorageError:
        async with books.db.transaction(durable=True) as tx:
            await RECIPIENTS.add(tx, address, since_ms=SystemClock().now_ms())
            await note_act(tx, books.operator, "recipient retire taken back", address)
        raise


async def _require_empty(books: OpenBooks, address: str) -> None:
    """Raises ConfigurationInvalid while an address holds a token; ChainUnavailable."""
    holds = await _holdings(books, address)
    if holds:
        listed = ", ".join(f"{each.amount} {each.token} on {each.chain}" for each in holds)
        raise ConfigurationInvalid(f"{address} is not empty: it has {listed}. Move that first.")


async def base_domains(books: OpenBooks) -> list[Former]:
    """Returns every domain that was ever `base_domain`."""
    return await BASE_DOMAINS.every(books.db)


async def retire_base_domain(books: OpenBooks, domain: str, *, reason: str) -> None:
    """Has apps served below a former `base_domain` no more, from the next start on.

    Raises ConfigurationInvalid while the gateway was started with it, InvalidField for one that
    is not known.
    """
    async with books.db.transaction(durable=True) as tx:
        started_with = await configuration.in_force(tx)
        if started_with.get("base_domain") == f'"{domain}"':
            raise ConfigurationInvalid(
                f"{domain} is configured: change base_domain, restart, try again."
            )
        if not await BASE_DOMAINS.retire(tx, domain, at_ms=SystemClock().now_ms()):
            raise InvalidField(domain, "was never base_domain here, or is retired already")
        await note_act(tx, books.operator, "base-domain retire", domain, reason=reason)


async def _holdings(books: OpenBooks, address: str) -> list[Holding]:
    return [
        Holding(name, token.name, decimal_text(amount, decimals=token.decimals))
        for name, client in books.clients.items()
        for token, amount in await token_balances(client, books.chains[name], address)
        if amount
    ]
