"""Everything that `moorage serve` will need, asked before it is needed."""

import asyncio
import itertools

from moorage.chains.chain import Chain
from moorage.clock import SystemClock
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.gateway.configuration import serving_chains
from moorage.operate.check.configuration import (
    Finding,
    check_address,
    check_authority,
    check_configuration,
    check_content,
    check_names,
    check_offsite,
)
from moorage.operate.check.machine import check_cluster, check_docker, check_machine
from moorage.operate.check.nodes import check_nodes, check_tokens
from moorage.settings import Settings


async def check_gateway(settings: Settings, *, starts: bool = False) -> list[Finding]:
    """Checks machine, cluster, configuration, names, nodes, tokens and the public address.

    A gateway that `starts` leaves out tokens, which change little, and asks its address itself.

    It changes nothing, except a file in each store, which it deletes again. Without chains
    it is what `moorage dev` needs: the machine, and its Docker where apps run there.
    """
    if not settings.chains:
        return [*await check_machine(settings), *await check_docker(settings)]
    configuration = check_configuration(settings, now_ms=SystemClock().now_ms())
    chains = _chains(settings)
    found = await asyncio.gather(
        check_machine(settings),
        check_cluster(settings),
        check_docker(settings),
        check_content(settings),
        check_names(settings),
        check_authority(settings),
        check_nodes(chains, timeout_seconds=settings.rpc_timeout_seconds),
        check_tokens(() if starts else chains),
        *(() if starts else (check_address(settings), check_offsite(settings))),
    )
    return [*configuration, *itertools.chain.from_iterable(found)]


def _chains(settings: Settings) -> list[Chain]:
    """Returns the chains; none where they are set wrong, which is a finding of its own."""
    try:
        return list(serving_chains(settings).values())
    except (ConfigurationInvalid, InvalidField):
        return []
