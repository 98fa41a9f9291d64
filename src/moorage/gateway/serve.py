"""`moorage serve`: a gateway on real chains."""

from collections.abc import Callable, Sequence

from moorage.clock import SystemClock
from moorage.gateway.configuration import receiving_address, serving_chains
from moorage.gateway.duplicate_gateway_check import DuplicateGatewayCheck
from moorage.gateway.operator_port import OpenOperatorPages
from moorage.gateway.running import GatewayAddresses, Reload, run_gateway, stop_on_signals
from moorage.settings import Settings
from moorage.storage.opening import Purpose


async def run_serve(
    settings: Settings,
    *,
    load: Callable[[], Settings],
    on_ready: Callable[[GatewayAddresses], None],
    audit: Sequence[str],
    open_pages: OpenOperatorPages | None = None,
    beside_another: bool = False,
) -> None:
    """Runs until SIGINT or SIGTERM; apps and proxy run on until the next start.

    `load` reads the settings again, which SIGHUP asks for; `audit` is the command that audits the
    books, which is done each day; `open_pages` opens the operator's pages.
    With `beside_another` it starts though another gateway that answers at its public address takes
    the same payments.

    Raises AlreadyRunning without that; ConfigurationInvalid for settings that would make it unsafe
    or useless.
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
        duplicates=DuplicateGatewayCheck(
            settings, clock=SystemClock(), beside_another=beside_another
        ),
    )
