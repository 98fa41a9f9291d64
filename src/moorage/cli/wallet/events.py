"""`moorage events` and `webhook`: what happened to a wallet, and where it is sent."""

import asyncio
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.events import EventPage, WebhookMade, WebhookRemoved, WebhookShown


def events(
    *,
    after: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=200))] = 50,
    options: Options = DEFAULTS,
) -> int:
    """List what happened to your money and your projects, oldest first.

    Parameters
    ----------
    after
        Only what came after the event of this sequence.
    limit
        How many to list.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> EventPage:
        async with connection.signed_client() as client:
            return await client.events(after=after, limit=limit)

    page = asyncio.run(ask())
    screen.document(page)
    rows = [
        (str(each.sequence), each.timestamp, each.type, _pairs(each.data)) for each in page.events
    ]
    screen.table(("SEQUENCE", "AT", "TYPE", "DATA"), rows, none="Nothing has happened since.")
    if len(page.events) == limit:
        screen.result(f"Next: moorage events --after {page.last_sequence}")
    return Exit.OK


def webhook(
    what: Literal["set", "show", "remove"], url: str = "", /, *, options: Options = DEFAULTS
) -> int:
    """Have your events sent to a URL: `moorage webhook set https://…`.

    Parameters
    ----------
    what
        `set` sends every event from now on and prints the secret that signs them, this once;
        `show` says how deliveries go; `remove` ends them.
    url
        Where `set` sends them to.
    """
    screen = Screen(json=options.json)
    if (what == "set") != bool(url):
        raise ClientMisconfigured("give a URL to set, and to set alone: moorage webhook set URL")
    connection = find_connection(options)

    async def ask() -> WebhookMade | WebhookShown | WebhookRemoved:
        async with connection.signed_client() as client:
            if what == "set":
                return await client.set_webhook(url)
            return await (client.webhook() if what == "show" else client.remove_webhook())

    answer = asyncio.run(ask())
    screen.document(answer)
    screen.result(webhook_text(answer))
    return Exit.OK


def webhook_text(answer: WebhookMade | WebhookShown | WebhookRemoved) -> str:
    """A webhook, made, as it stands or gone, for a person."""
    if isinstance(answer, WebhookMade):
        return f"{answer.url} is sent your events, signed with {answer.secret} (not shown again)"
    if isinstance(answer, WebhookRemoved):
        return "The webhook is removed; nothing is sent any more."
    lines = [answer.url, f"{answer.waiting} waiting" + _at(answer.next_attempt_at)]
    last = answer.last_delivery
    if last is not None:
        why = f": {last.error}" if last.error else ""
        lines.append(f"last delivery {last.status} after {last.attempts} attempts{why}")
    return "\n".join(lines)


def _at(next_attempt: str | None) -> str:
    return f", next attempt at {next_attempt}" if next_attempt else ""


def _pairs(data: dict[str, str | int | float]) -> str:
    return " ".join(f"{name}={value}" for name, value in data.items())
