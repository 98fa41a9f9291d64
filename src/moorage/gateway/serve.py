"""`moorage serve`: a gateway on real chains."""

from collections.abc import Callable, Sequence

from moorage.chains.address import checksum_address, parse_address
from moorage.chains.chain import Chain
from moorage.errors import ConfigurationInvalid
from moorage.gateway.operator.port import OpenOperatorPages
from moorage.gateway.running import GatewayAddresses, run_gateway
from moorage.gateway.state.reload import Reload
from moorage.gateway.stopping import stop_on_signals
from moorage.settings import Settings
from moorage.storage.purpose import Purpose

_LOCAL_NODES = ("anvil", "hardhat", "ganache", "foundry")


def is_local_node(version: str) -> bool:
    """Returns whether a node that names itself so is a development node."""
    return version.lower().startswith(_LOCAL_NODES)


async def run_serve(
    settings: Settings,
    *,
    load: Callable[[], Settings],
    on_ready: Callable[[GatewayAddresses], None],
    audit: Sequence[str],
    open_pages: OpenOperatorPages | None = None,
) -> None:
    """Runs until SIGINT or SIGTERM; apps and proxy run on until the next start.

    `load` reads the settings again, which SIGHUP asks for; `audit` is the command that audits the
    books, which is done each day; `open_pages` opens the operator's pages.

    Raises ConfigurationInvalid for settings that would make it unsafe or useless.
    """
    reload = Reload(settings, load)
    reload.on_hangup()
    await run_gateway(
        settings,
        chains=serving_chains(settings),
        pay_to=receiving_address(settings),
        on_ready=on_ready,
        stop=stop_on_signals(),
        stop_apps=False,
        purpose=Purpose.SERVE,
        audit=audit,
        reload=reload,
        open_pages=open_pages,
    )


def serving_chains(settings: Settings) -> dict[str, Chain]:
    """Returns the configured chains. Raises ConfigurationInvalid without an open one."""
    if not settings.chains:
        raise ConfigurationInvalid("chains: at least one is needed; see docs/operate/configure.md.")
    chains = {name: item.chain(name) for name, item in settings.chains.items()}
    if all(chain.closed for chain in chains.values()):
        raise ConfigurationInvalid("chains: all are closed, so nobody could pay; open one.")
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
