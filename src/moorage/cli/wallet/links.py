"""`moorage dashboard` and `links`: pages in a browser, for you or for somebody else."""

import asyncio
import webbrowser
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import UNSET

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.cli.wallet.projects import find_project
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.links import LinkBody, LinkList, LinkMade, LinkRemoved

What = Literal["list", "add", "remove"]


def dashboard(
    *,
    open: Annotated[bool, Parameter(negative=())] = False,  # noqa: A002  (the flag's name)
    options: Options = DEFAULTS,
) -> int:
    """Print the address of your pages in a browser: what runs, what it costs, and until when.

    It opens them once, within 10 minutes, without a wallet in the browser: give it to the person
    whose apps these are. Who opens it can change things; what can't be undone needs your key.

    Parameters
    ----------
    open
        Open it in this machine's browser as well.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> LinkMade:
        async with connection.signed_client() as client:
            return await client.dashboard()

    made = asyncio.run(ask())
    screen.document(made)
    screen.result(made.url)
    screen.note("It opens once, within 10 minutes.")
    if open and not webbrowser.open(made.url):
        screen.warn("no browser was found here: open the address yourself")
    return Exit.OK


def links(
    what: What = "list",
    link_id: str = "",
    /,
    *,
    label: str = "",
    days: Annotated[int, Parameter(validator=Number(gte=1, lte=90))] = 7,
    project: str = "",
    options: Options = DEFAULTS,
) -> int:
    """Let others look at your pages, without changing anything: `moorage links add --label Ann`.

    Parameters
    ----------
    what
        `list` says which links there are; `add` makes one; `remove` ends one, and signs out who
        has opened it.
    link_id
        The link to remove.
    label
        Who it is for: a note for yourself.
    days
        How long it lasts.
    project
        The only project that it shows, by name or id.
    """
    if (what == "remove") != bool(link_id):
        raise ClientMisconfigured("write: moorage links remove LINK, as `moorage links` lists them")
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> LinkList | LinkMade | LinkRemoved:
        async with connection.signed_client() as client:
            match what:
                case "list":
                    return await client.links()
                case "remove":
                    return await client.remove_link(link_id)
            named = await find_project(client, project) if project else UNSET
            return await client.make_link(LinkBody(label=label, days=days, project_id=named))

    _tell(screen, asyncio.run(ask()))
    return Exit.OK


def _tell(screen: Screen, answer: LinkList | LinkMade | LinkRemoved) -> None:
    screen.document(answer)
    match answer:
        case LinkMade():
            screen.result(answer.url)
            screen.note(
                f"Everybody who has it can look until {answer.expires_at}. It is shown this once."
            )
        case LinkRemoved():
            screen.result(f"{answer.id} opens nothing any more")
        case LinkList():
            rows = [
                (
                    *(each.id, each.label or "-", each.project_id or "(all)"),
                    *(each.used_at or "never", each.expires_at),
                )
                for each in answer.links
            ]
            heads = ("LINK", "FOR", "SHOWS", "LAST OPENED", "ENDS")
            screen.table(heads, rows, none="No links. Next: moorage links add --label WHO")
