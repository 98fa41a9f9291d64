"""Which chains and address the settings name, and what changed since the last start.

An operator changes a file; what that does to money that was paid and to addresses that were given
out is decided here, before anything serves: changes are recorded, and refused where they would lose
money.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import structlog

from moorage.address import checksum_address, parse_address
from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.clock import Clock
from moorage.errors import ConfigurationInvalid
from moorage.settings import Settings, chain_named, of_another, recorded
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source
from moorage.storage.money import settlements
from moorage.storage.operation import configuration
from moorage.storage.operation.configuration import ConfigurationChange

_LOCAL_NODES = ("anvil", "hardhat", "ganache", "foundry")


def is_local_node(version: str) -> bool:
    """Returns whether a node that names itself so is a development node."""
    return version.lower().startswith(_LOCAL_NODES)


def serving_chains(settings: Settings) -> dict[str, Chain]:
    """Returns the configured chains. Raises ConfigurationInvalid without an open one."""
    if not settings.chains:
        raise ConfigurationInvalid("chains: at least one is needed; see docs/run/configure.md.")
    chains = {name: item.chain(name) for name, item in settings.chains.items()}
    if all(chain.closed for chain in chains.values()):
        raise ConfigurationInvalid("chains: all are closed, so nobody could pay; open one.")
    first = chains.get(settings.offer_first)
    if settings.offer_first and (first is None or first.closed):
        raise ConfigurationInvalid("offer_first: name one of the chains that are open.")
    return chains


def receiving_address(settings: Settings) -> str:
    """Returns `pay_to`, checksummed. Raises ConfigurationInvalid, also for a typo (EIP-55)."""
    try:
        checksummed = checksum_address(parse_address(settings.pay_to))
    except ValueError as error:
        raise ConfigurationInvalid("pay_to: set the address that payments go to.") from error
    digits = settings.pay_to[2:]
    if digits not in (checksummed[2:], digits.lower(), digits.upper()):
        raise ConfigurationInvalid(
            f"pay_to: {settings.pay_to} fails its checksum (EIP-55), so it is mistyped."
        )
    return checksummed


log = structlog.get_logger()


def former_chains(history: Iterable[ConfigurationChange], *, now: Iterable[Chain]) -> list[Chain]:
    """Returns the chains that earlier starts had and `now` has not, by id; their nodes are gone."""
    known = {chain.chain_id: chain for chain in KNOWN_CHAINS.values()}
    for change in history:
        for value in (change.before, change.after):
            if chain_named(change.setting) and value is not None:
                chain = msgspec.json.decode(value, type=Chain)
                known[chain.chain_id] = msgspec.structs.replace(chain, rpc_urls=())
    for chain in now:
        known.pop(chain.chain_id, None)
    return list(known.values())


def compare(
    before: Mapping[str, str], after: Mapping[str, str], *, now_ms: int
) -> Iterator[ConfigurationChange]:
    """Yields what is different, by name; values are JSON, None where a side has no such setting."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield ConfigurationChange(at_ms=now_ms, setting=name, before=old, after=new)


async def in_force(source: Source, settings: Settings) -> dict[str, str]:
    """Returns what was recorded last of each setting, without those of other gateways' places."""
    found = await configuration.in_force(source)
    return {name: value for name, value in found.items() if not of_another(name, settings)}


async def take_configuration(db: Database, settings: Settings, *, clock: Clock) -> Settings:
    """Records how the settings differ from the last start's; returns them with former domains.

    Raises ConfigurationInvalid, with nothing recorded, when a chain or a token was taken out on
    which money is still on its way, or a size that projects have.
    """
    now_ms = clock.now_ms()
    async with db.transaction(durable=True) as tx:
        before = await in_force(tx, settings)
        changes = list(compare(before, recorded(settings), now_ms=now_ms))
        await _refuse_loss(tx, settings, changes)
        await _refuse_lost_sizes(tx, settings)
        await configuration.add_change(tx, changes)
        await configuration.BASE_DOMAINS.add(tx, settings.base_domain, since_ms=now_ms)
        former = await configuration.BASE_DOMAINS.in_use(tx)
    if before:
        _log(changes)
    elsewhere = tuple(each for each in former if each != settings.base_domain)
    return msgspec.structs.replace(settings, former_domains=elsewhere)


async def record_changes(db: Database, settings: Settings, *, clock: Clock) -> None:
    """Records how the settings differ from those in force, for a gateway that keeps them."""
    async with db.transaction(durable=True) as tx:
        before = await in_force(tx, settings)
        changes = list(compare(before, recorded(settings), now_ms=clock.now_ms()))
        await configuration.add_change(tx, changes)
    _log(changes)


def _log(changes: Sequence[ConfigurationChange]) -> None:
    for change in changes:
        log.info(
            "configuration changed", setting=change.setting, was=change.before, now=change.after
        )


async def _refuse_loss(
    source: Source, settings: Settings, changes: Sequence[ConfigurationChange]
) -> None:
    """Raises ConfigurationInvalid where a chain changed and money of it is still on its way."""
    if not any(chain_named(each.setting) and each.before is not None for each in changes):
        return
    kept = {
        (chain.chain_id, token.key)
        for chain in (each.chain(name) for name, each in settings.chains.items())
        for token in chain.tokens
    }
    lost = [
        each for each in await settlements.unsettled_by_token(source) if each.token_key not in kept
    ]
    if lost:
        listed = "; ".join(f"{each.token} on chain {each.chain_id}: {each.what}" for each in lost)
        raise ConfigurationInvalid(
            f"chains: money is still on its way there, which nobody would follow ({listed}). "
            "Put it back in, with `closed = true` if it shall take no more; once all of it is "
            "final, within the hour on most chains, it can go."
        )


async def _refuse_lost_sizes(source: Source, settings: Settings) -> None:
    """Raises ConfigurationInvalid where projects have a size that is not listed."""
    listed = {each.name for each in settings.size_list.listed}
    if lost := sorted(await projects.sizes(source) - listed):
        raise ConfigurationInvalid(
            f"sizes: projects have {', '.join(lost)}, and pay for it. Put it back in, with "
            "`sold = false` if no more projects may have it."
        )
