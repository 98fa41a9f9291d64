"""`moorage stop`: end what a gateway runs."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.books import operator_settings
from moorage.cli.screen import Screen


def stop(
    *,
    reason: str = "",
    config: Path | None = None,
    data_dir: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """End the apps and the proxy of a gateway that you have stopped: `moorage stop`.

    Nothing of it is left on the machine but its data, and nobody is billed; the next `serve` starts
    all of it again. It refuses while `serve` runs: `systemctl stop moorage` first.

    Parameters
    ----------
    reason
        Why, for `moorage acts`.
    config
        The gateway's settings, as TOML; without it `moorage dev` is meant.
    data_dir
        Where it keeps everything, if not where the settings say.
    json
        Print one JSON document.
    """
    from moorage import logs
    from moorage.operate.stopping import run_stop

    settings = operator_settings(config, data_dir)
    logs.configure(json=settings.log_json, level="warning")
    stopped = asyncio.run(run_stop(settings, reason=reason.strip()))
    screen = Screen(json=json)
    screen.document({"stopped": stopped})
    screen.result(f"Stopped {stopped.apps} apps and the proxy. All data is kept.")
    return Exit.OK
