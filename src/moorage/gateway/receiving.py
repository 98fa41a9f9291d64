"""On which chains a gateway takes payments, and at which address, as its settings say."""

from moorage.chains.address import checksum_address, parse_address
from moorage.chains.chain import Chain
from moorage.errors import ConfigurationInvalid
from moorage.settings import Settings

_LOCAL_NODES = ("anvil", "hardhat", "ganache", "foundry")


def is_local_node(version: str) -> bool:
    """Returns whether a node that names itself so is a development node."""
    return version.lower().startswith(_LOCAL_NODES)


def serving_chains(settings: Settings) -> dict[str, Chain]:
    """Returns the configured chains. Raises ConfigurationInvalid without an open one."""
    if not settings.chains:
        raise ConfigurationInvalid("chains: at least one is needed; see docs/operate/configure.md.")
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
