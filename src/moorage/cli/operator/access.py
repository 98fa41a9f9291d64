"""`moorage operator link` and `end`: the way to the operator's pages, and its closing."""

import asyncio
from datetime import UTC, datetime
from typing import Literal

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions, reason_option


def operator(
    action: Literal["link", "end"],
    /,
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Print a link that opens the operator's pages: `moorage operator link`.

    It opens them once, within 10 minutes, in a browser that reaches the operator's port; what is
    done there is recorded under your name. From elsewhere: `ssh -L 8403:127.0.0.1:8403 HOST`.

    `moorage operator end` signs every operator out, and takes back the links that nobody opened.

    Parameters
    ----------
    action
        Make a link, or end all access.
    reason
        Of `end`: why, for `moorage acts`.
    """
    from moorage.operate.access import run_operator_end, run_operator_link

    settings, screen = options.settings(), options.screen()
    if action == "end":
        ended = asyncio.run(run_operator_end(settings, reason=reason_option(reason)))
        screen.document(ended)
        screen.result(f"Ended {ended.sessions} sessions, and took back {ended.links} links.")
        return Exit.OK
    made = asyncio.run(run_operator_link(settings))
    until = datetime.fromtimestamp(made.expires_ms // 1000, UTC).isoformat()
    screen.document({"url": made.url, "expires_at": until.replace("+00:00", "Z")})
    screen.result(made.url)
    screen.note("It opens once, within 10 minutes.")
    return Exit.OK
