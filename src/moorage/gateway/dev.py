"""`moorage dev`: a gateway on one machine, with local chains in place of real ones."""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.local.devchain import DevChain, DevWallets, dev_wallets, find_anvil
from moorage.errors import AlreadyRunning, ConfigurationInvalid
from moorage.failpoints import armed, crash_at
from moorage.gateway.data_directory import DEV_CHAINS, DEV_FILE, open_data_directory
from moorage.gateway.operator_port import OpenOperatorPages
from moorage.gateway.running import GatewayAddresses, GatewayRun, stop_on_signals
from moorage.settings import Settings
from moorage.storage.opening import Purpose
from moorage.threads import in_thread
from moorage.whole_file import replace_file

_LOOPBACK = ("127.0.0.0/8", "::1/128")


async def run_dev(
    settings: Settings,
    *,
    node_modules: list[Path],
    on_ready: Callable[[GatewayAddresses, dict[str, Chain], Path], None],
    open_pages: OpenOperatorPages | None = None,
) -> None:
    """Runs chains and gateway until SIGINT or SIGTERM; then stops everything and keeps its state.

    `settings.data_dir` must be absolute.
    """
    if settings.gateway_name:
        raise ConfigurationInvalid("gateway_name: `moorage dev` is one gateway; leave it empty.")
    if not settings.webhook_allow_networks:
        settings = msgspec.structs.replace(settings, webhook_allow_networks=_LOOPBACK)
    data_dir = Path(settings.data_dir)
    # Before wallets there mark it as one of dev.
    await in_thread(open_data_directory, data_dir, Purpose.DEV, settings.database_url)
    dev_file = data_dir / DEV_FILE
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        stack.enter_context(armed(crash_at(os.environ.get("MOORAGE_CRASH_AT", ""))))
        wallets = dev_wallets(data_dir / "wallets.json")
        settings = _with_relayer(settings, wallets)
        chains = await _start_chains(stack, settings, wallets, node_modules)

        def write_dev_file(addresses: GatewayAddresses) -> None:
            document = dev_document(settings, addresses, chains, wallets)
            text = msgspec.json.format(msgspec.json.encode(document), indent=1)
            replace_file(dev_file, text + b"\n")  # readable to its owner alone: it holds keys
            on_ready(addresses, chains, dev_file)

        stack.callback(dev_file.unlink, missing_ok=True)
        run = GatewayRun(
            settings=settings,
            chains=chains,
            pay_to=wallets.pay_to.address,
            on_ready=write_dev_file,
            stop_apps=True,
            purpose=Purpose.DEV,
            open_pages=open_pages,
        )
        await run.until(stop)


def reset(data_dir: Path) -> None:
    """Deletes everything that `moorage dev` kept. Raises AlreadyRunning while it runs."""
    if (data_dir / DEV_FILE).exists():
        raise AlreadyRunning(f"{data_dir} is in use: stop `moorage dev` first.")
    shutil.rmtree(data_dir, ignore_errors=True)


def dev_document(
    settings: Settings, addresses: GatewayAddresses, chains: dict[str, Chain], wallets: DevWallets
) -> dict[str, object]:
    """Returns the content of `dev.json`: everything a client or a test needs."""
    return {
        "gateway": addresses.gateway,
        "proxy": addresses.proxy,
        "operator": addresses.operator,
        "base_domain": settings.base_domain,
        "pay_to": wallets.pay_to.address,
        "chains": {
            name: {
                "chain_id": chain.chain_id,
                "rpc_url": chain.rpc_urls[0],
                "tokens": {token.name: token.address for token in chain.tokens},
            }
            for name, chain in chains.items()
        },
        "wallets": wallets.wallets,
    }


async def _start_chains(
    stack: AsyncExitStack, settings: Settings, wallets: DevWallets, node_modules: list[Path]
) -> dict[str, Chain]:
    anvil = find_anvil(node_modules)
    data_dir = Path(settings.data_dir)
    bury_above = settings.safe_above_micro_usd  # micro-USD are the tokens' atomic units here
    locals_ = [
        DevChain(
            KNOWN_CHAINS[name], directory=data_dir / "chains" / name, anvil=anvil, wallets=wallets
        )
        for name in DEV_CHAINS
    ]
    for local in locals_:
        stack.push_async_callback(local.stop)
    started = await asyncio.gather(*(local.start() for local in locals_))
    for local in locals_:
        stack.callback(asyncio.create_task(local.keep_mining(bury_above=bury_above)).cancel)
    return {chain.name: chain for chain in started}


def _with_relayer(settings: Settings, wallets: DevWallets) -> Settings:
    """Returns settings with the local chains' own relayer and treasury, unless others are set.

    The relayer has gas; the treasury is the address that is paid, and has gas as well.
    """
    own = {"relayer_key_file": wallets.relayer, "refund_key_file": wallets.pay_to}
    for name, wallet in own.items():
        if not getattr(settings, name):
            path = Path(settings.data_dir) / name.replace("_key_file", ".key")
            replace_file(path, wallet.private_key.encode())
            settings = msgspec.structs.replace(settings, **{name: str(path)})
    return settings
