"""The commands about a wallet: what it holds, its credits, events, links, and its agent's tools."""

import asyncio
import logging
import os
import sys
import webbrowser
from decimal import Decimal
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from msgspec import UNSET

from moorage.cli.connection import DEFAULTS, Options, Session, WaitTeller, client_command
from moorage.cli.flags import Switch
from moorage.cli.main import Exit
from moorage.cli.progress import Chain, Token, Yes, payer_of, payment_document
from moorage.cli.projects import find_project
from moorage.clock import iso_utc
from moorage.money import MICRO_USD_PER_USD, decimal_text
from moorage.sdk.budget import read_budget, read_dollars
from moorage.sdk.client import verify_receipt
from moorage.sdk.errors import ClientMisconfigured
from moorage.sdk.journal import Journal
from moorage.sdk.payer import Bought
from moorage.sdk.signer import Signer
from moorage.wire.credits import CreditEntry, Credits, ToppedUp
from moorage.wire.delegates import DelegateEnded, DelegateItem, DelegateList, DelegatesEnded
from moorage.wire.events import WebhookMade, WebhookRemoved, WebhookShown
from moorage.wire.public import LinkBody, LinkList, LinkMade, LinkRemoved
from moorage.wire.receipts import Receipt, ReceiptList
from moorage.wire.recovery import RecoveryShown
from moorage.wire.refunds import RefundQuoted, RefundShown, RefundState


@client_command
async def credits(  # noqa: A001  (the command's name; the builtin is for the prompt)
    session: Session,
    /,
    *,
    entries: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 10,
) -> None:
    """Show your credits, what burns them and when they run out.

    Parameters
    ----------
    entries
        How many of the last payments and burns to list.
    """
    screen, found = session.screen, await (await session.client()).credits(limit=entries)
    screen.document(found)
    screen.result(_summary(found))
    if found.ledger:
        rows = [(each.at, each.kind, f"{each.amount_usd:+.6f}", _of(each)) for each in found.ledger]
        screen.table(("AT", "KIND", "USD", "OF"), rows)


def _summary(found: Credits) -> str:
    lines = [f"${found.balance_usd:.6f} in credits of {found.wallet}"]
    if found.held_usd:
        lines.append(f"${found.held_usd:.6f} held for the operator's review")
    if found.burning:
        lines.append(f"{len(found.burning)} running, ${found.burn_per_hour_usd:.6f} an hour")
    if found.runs_out_at:
        lines.append(f"runs out at {found.runs_out_at}")
    if (builds := found.build_allowance) is not None:
        lines.append(
            f"{builds.left_seconds // 60} minutes of building left, then "
            f"${builds.beyond_per_minute_usd:.6f} a minute"
        )
    return "\n".join(lines)


def _of(entry: CreditEntry) -> str:
    """What an entry is of: a project, or a transaction."""
    return entry.project_id or entry.tx_hash or "-"


@client_command
async def topup(
    session: Session,
    amount: str,
    /,
    *,
    chain: Chain = "arbitrum",
    token: Token = "usdc",  # noqa: S107 - a token that pays, not one that logs in
    for_: Annotated[str, Parameter(name="--for")] = "",
    yes: Yes = False,
) -> None:
    """Buy credits, which keep your projects running.

    The price is shown first; on a terminal you are asked before it is paid.

    Run the same command again after any failure: a payment is never made twice.

    Parameters
    ----------
    amount
        How many dollars of credits, such as 5 or 2.50.
    for_
        The wallet that gets them, such as the one you act for; your own, if not given.
    """
    screen, dollars = session.screen, read_dollars(amount, of="AMOUNT")
    for warning in session.connection.warnings:
        screen.warn(warning)
    payer = payer_of(await session.client(), session, allowed=yes, allow="--yes", then="credit it")
    credited = await payer.top_up(dollars, chain=chain, token=token, given_to=for_)
    screen.document(topup_document(credited))
    screen.result(topup_text(credited.answer))
    screen.result("Next: moorage credits")


def topup_text(answer: ToppedUp) -> str:
    """What a top-up brought, in a sentence; gateways need not say the balance."""
    left = "" if answer.balance_usd is UNSET else f"; ${answer.balance_usd:.6f} in credits now"
    return f"${answer.credited_usd:.6f} credited{left}."


def topup_document(credited: Bought[ToppedUp]) -> dict[str, Any]:
    """The JSON document of a top-up."""
    balance = credited.answer.balance_usd
    return {
        "credited_usd": credited.answer.credited_usd,
        "balance_usd": None if balance is UNSET else balance,
        "payment": payment_document(credited.payment),
    }


@client_command
async def refund(
    session: Session,
    project: str = "",
    /,
    *,
    max_usd: str = "",
    suspend: Switch = False,
    yes: Annotated[bool, Parameter(help="Do not ask.", alias="-y", negative=())] = False,
    listed: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> int:
    """Have what you paid and did not use sent back, to the wallet that paid it.

    It says what goes back, what does not and why, and asks before anything changes. Credits that
    the operator gave are used up first, and never sent back.

    Parameters
    ----------
    project
        A project with a purse of its own: takes from that instead of from your credits.
    max_usd
        How many dollars of credits to take at most, such as 5 or 2.50; all unless given.
    suspend
        Pause what runs of these credits; else an hour of it is kept.
    listed
        List the refunds that you have asked for, and how far they have come.
    """
    screen, client = session.screen, await session.client()
    if listed:
        found = await client.refunds()
        screen.document(found)
        rows = [
            (each.created_at, each.state, f"{each.refundable_usd:.6f}", each.id, why_waiting(each))
            for each in found.refunds
        ]
        columns = ("AT", "STATE", "USD", "ID", "WHY")
        screen.table(columns, rows, none="You have asked for no refund.")
        return Exit.OK
    most = Decimal(read_dollars(max_usd, of="--max-usd")) / MICRO_USD_PER_USD if max_usd else None
    purse = await find_project(client, project) if project else ""
    quote = await client.quote_refund(project_id=purse, max_usd=most, suspend=suspend)
    screen.note(quote_text(quote))
    if not quote.items:
        screen.document(quote)
        return Exit.OK
    if not yes and not screen.can_ask():
        raise ClientMisconfigured("no terminal to ask at: pass --yes. Nothing was changed.")
    if not yes and not screen.confirm(f"Have ${quote.refundable_usd:.6f} sent back?"):
        screen.note("Nothing was changed.")
        return Exit.FAILED
    asked = await client.refund(quote, suspend=suspend)
    for _ in range(_REFUND_POLLS):
        if asked.decided_before or asked.state not in (RefundState.QUEUED, RefundState.SENT):
            break
        await asyncio.sleep(_REFUND_POLL_SECONDS)
        asked = await client.refund_state(asked.id)
    screen.document(asked)
    screen.result(refund_text(asked))
    return Exit.FAILED if asked.state is RefundState.FAILED else Exit.OK


_REFUND_POLLS = 15
_REFUND_POLL_SECONDS = 2.0


def quote_text(quote: RefundQuoted) -> str:
    """What would go back, and what would not, for a person."""
    return "\n".join(
        [
            f"${quote.refundable_usd:.6f} can go back. {quote.message}",
            *(
                f"{each.net} {each.token} on {each.chain} to {each.to}, and {each.gas} for the gas"
                for each in quote.items
            ),
            *(f"kept: ${each.usd:.6f} ({each.why.replace('_', ' ')})" for each in quote.kept),
            *(f"project {each.project_id} stops at {each.at}" for each in quote.ends if each.at),
        ]
    )


def why_waiting(found: RefundShown) -> str:
    """Why a refund is not sent yet; "" if nothing says so."""
    return next((part.because for part in found.items if part.because), "")


def refund_text(found: RefundShown) -> str:
    """How far a refund has come, for a person."""
    waits = f"; the operator answers by {found.decided_before}" if found.decided_before else ""
    said = f"Refund {found.id}: ${found.refundable_usd:.6f} {found.state}{waits}"
    return f"{said}. See: moorage refund --list"


@client_command
async def receipt(session: Session, tx: str, /, *, verify: Switch = False) -> None:
    """Show the gateway's signed receipts of a payment: with --json, the documents to keep.

    Parameters
    ----------
    tx
        The hash of the transaction that paid.
    verify
        Check that the gateway's own key signed them.
    """
    client, screen = await session.client(), session.screen
    found = await client.receipts(tx)
    if verify:
        keys = await client.receipt_keys()
        for each in found:
            verify_receipt(each, keys)
    screen.document(ReceiptList(receipts=found))
    for each in found:
        screen.result(receipt_text(each.message))
    screen.note("Signed by the gateway's own key." if verify else "Next: the same with --verify")


def receipt_text(receipt: Receipt) -> str:
    """A receipt for a person."""
    decimals = int(receipt.decimals)
    amount = decimal_text(int(receipt.amount), decimals=decimals)
    back = decimal_text(int(receipt.refunded), decimals=decimals)
    credited = decimal_text(int(receipt.credited_micro_usd), decimals=6)
    booked = f"{iso_utc(int(receipt.credited_at_ms))}, {receipt.status}, {receipt.finality}"
    lines = [
        f"{amount} {receipt.symbol} from {receipt.payer} to {receipt.payee}",
        f"in {receipt.transaction} on chain {receipt.chain_id}, transfer {receipt.log_index}",
        f"${credited} credited by {receipt.issuer or receipt.host} at {booked}",
    ]
    return "\n".join([*lines, *([f"{back} paid back"] if receipt.refunds else [])])


@client_command
async def events(
    session: Session,
    /,
    *,
    after: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=200))] = 50,
) -> None:
    """List what happened to your money and your projects, oldest first.

    Parameters
    ----------
    after
        Only what came after the event of this sequence.
    limit
        How many to list.
    """
    screen, page = session.screen, await (await session.client()).events(after=after, limit=limit)
    screen.document(page)
    rows = [
        (str(each.sequence), each.timestamp, each.type, _pairs(each.data)) for each in page.events
    ]
    screen.table(("SEQUENCE", "AT", "TYPE", "DATA"), rows, none="Nothing has happened since.")
    if len(page.events) == limit:
        screen.result(f"Next: moorage events --after {page.last_sequence}")


@client_command
async def webhook(
    session: Session, what: Literal["set", "show", "remove"], url: str = "", /
) -> None:
    """Have your events sent to a URL: `moorage webhook set https://…`.

    Parameters
    ----------
    what
        `set` sends every event from now on and prints the secret that signs them, this once;
        `show` says how deliveries go; `remove` ends them.
    url
        Where `set` sends them to.
    """
    if (what == "set") != bool(url):
        raise ClientMisconfigured("give a URL to set, and to set alone: moorage webhook set URL")
    client = await session.client()
    answer: WebhookMade | WebhookShown | WebhookRemoved
    match what:
        case "set":
            answer = await client.set_webhook(url)
        case "show":
            answer = await client.webhook()
        case "remove":
            answer = await client.remove_webhook()
    session.screen.document(answer)
    session.screen.result(webhook_text(answer))


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


@client_command
async def dashboard(
    session: Session,
    /,
    *,
    open: Switch = False,  # noqa: A002  (the flag's name)
) -> None:
    """Print the address of your pages in a browser: what runs, what it costs, and until when.

    It opens them once, within 10 minutes, without a wallet in the browser: give it to the person
    whose apps these are. Who opens it can change things; what can't be undone needs your key.

    Parameters
    ----------
    open
        Open it in this machine's browser as well.
    """
    screen, made = session.screen, await (await session.client()).dashboard()
    screen.document(made)
    screen.result(made.url)
    screen.note("It opens once, within 10 minutes.")
    if open and not webbrowser.open(made.url):
        screen.warn("no browser was found here: open the address yourself")


@client_command
async def recovery(
    session: Session,
    what: Literal["show", "set", "remove", "claim", "object"] = "show",
    wallet: str = "",
    /,
    *,
    wait_days: Annotated[int, Parameter(validator=Number(gte=7, lte=30))] = 14,
) -> None:
    """Name who may take your wallet over if its key is lost: `moorage recovery set 0x…`.

    Parameters
    ----------
    what
        `show` the state; `set` an address, or `remove` it; `claim` begins to take over a wallet
        that has named yours; `object` ends a claim on your wallet.
    wallet
        The address to name; of a claim, or to show, the wallet that has named yours.
    wait_days
        How long a claim, and a later change, waits.
    """
    if what in ("set", "claim") and not wallet:
        raise ClientMisconfigured(f"write: moorage recovery {what} 0x…")
    if what in ("remove", "object") and wallet:
        raise ClientMisconfigured(f"`moorage recovery {what}` is about your own wallet alone")
    client, screen = await session.client(), session.screen
    match what:
        case "show":
            found = await client.recovery(wallet or None)
        case "set":
            found = await client.set_recovery(wallet, wait_days=wait_days)
        case "remove":
            found = await client.set_recovery(None, wait_days=wait_days)
        case "claim":
            found = await client.claim(wallet)
        case "object":
            found = await client.object()
    screen.document(found)
    screen.result(recovery_text(found))


def recovery_text(found: RecoveryShown) -> str:
    """Who may take a wallet over, for a person."""
    if found.taken_over_at:
        return f"{found.wallet} was taken over by {found.address} at {found.taken_over_at}."
    lines = [
        f"{found.address} takes {found.wallet} over {found.wait_days} days after a claim."
        if found.address
        else f"Nobody can take {found.wallet} over: if its key is lost, its apps and credits are."
    ]
    if found.next:
        lines.append(f"From {found.next.at} on: {found.next.address or 'nobody'}.")
    if found.takes_over_at:
        lines.append(f"Claimed: taken over at {found.takes_over_at}, unless its owner objects.")
    return "\n".join(lines)


@client_command
async def links(
    session: Session,
    what: Literal["list", "add", "remove"] = "list",
    link_id: str = "",
    /,
    *,
    label: str = "",
    days: Annotated[int, Parameter(validator=Number(gte=1, lte=90))] = 7,
    project: str = "",
) -> None:
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
    client, screen = await session.client(), session.screen
    answer: LinkList | LinkMade | LinkRemoved
    match what:
        case "list":
            answer = await client.links()
        case "remove":
            answer = await client.remove_link(link_id)
        case "add":
            named = await find_project(client, project) if project else UNSET
            answer = await client.make_link(LinkBody(label=label, days=days, project_id=named))
    screen.document(answer)
    match answer:
        case LinkMade():
            screen.result(answer.url)
            screen.note(
                f"Everybody who has it can look until {answer.expires_at}. It is not shown again."
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


@client_command
async def delegate(
    session: Session,
    what: Literal["list", "add", "remove", "end-all"] = "list",
    wallet: str = "",
    /,
    *,
    scope: tuple[Literal["read", "deploy", "delete"], ...] = ("read",),
    project: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    days: Annotated[int, Parameter(validator=Number(gte=1, lte=400))] = 30,
) -> None:
    """Let another wallet act for yours: `moorage delegate add 0x… --scope deploy --limit 20`.

    It adds --on-behalf-of and your address to its commands. It cannot move your credits, make
    tokens or widen its own rights; what it opens lives from a purse, filled from your credits
    within --limit.

    Parameters
    ----------
    what
        `list` shows them; `add` signs one; `remove` ends one; `end-all` ends all, also those that
        you have signed and nobody has sent.
    wallet
        The address to add, or the id to remove, as `moorage delegate` lists it.
    scope
        `read`, `deploy` or `delete`; give it for each.
    project
        The name of the only project.
    limit
        Dollars that it may commit in a calendar month.
    days
        How long it lasts.
    """
    if (what in ("add", "remove")) != bool(wallet):
        raise ClientMisconfigured("write: moorage delegate add WALLET, or remove ID")
    client, screen = await session.client(), session.screen
    answer: DelegateList | DelegateItem | DelegateEnded | DelegatesEnded
    match what:
        case "list":
            answer = await client.delegates()
        case "add":
            answer = await client.add_delegate(
                wallet, scopes=scope, project=project, limit_usd_month=limit, days=days
            )
        case "remove":
            answer = await client.end_delegate(wallet)
        case "end-all":
            answer = await client.end_delegates()
    screen.document(answer)
    match answer:
        case DelegateItem():
            screen.result(answer.id)
            screen.note(f"{answer.delegate} may act for {answer.owner} until {answer.expires_at}.")
        case DelegateEnded():
            screen.result(f"{answer.id} has ended")
        case DelegatesEnded():
            screen.result(f"{answer.ended} ended, and all that were signed before now")
        case DelegateList():
            rows = [
                (
                    *(each.id, each.delegate, each.project or "(all)"),
                    *(" ".join(each.scopes), f"${each.limit_usd_month}", each.expires_at),
                )
                for each in answer.delegates
            ]
            heads = ("ID", "WALLET", "PROJECT", "MAY", "A MONTH", "ENDS")
            screen.table(heads, rows, none="No delegates. Next: moorage delegate add WALLET")


def mcp(*, read_only: Switch = False, options: Options = DEFAULTS) -> None:
    """Serve the tools for agents (Model Context Protocol) on standard input and output.

    It pays unasked within MOORAGE_MAX_USD_PER_CALL ($5 unless set) and MOORAGE_BUDGET_USD for
    24 hours ($20 unless set).

    Parameters
    ----------
    read_only
        Only those tools that change nothing and pay nothing.
    """
    if find_spec("mcp") is None:
        raise ClientMisconfigured("the tools need more: pip install 'moorage-client[mcp]'")
    from moorage.mcp.local import Wallet, serve

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    connection = options.connection()
    wallet = Wallet(
        signer=Signer(connection.required_key()),
        chains=connection.chains,
        journal=Journal(connection.state_dir),
        budget=read_budget(os.environ),
    )
    asyncio.run(serve(connection.signed_client(WaitTeller()), wallet, read_only=read_only))


@client_command
async def balance(
    session: Session, address: str | None = None, /, *, chain: str | None = None
) -> None:
    """Show what a wallet holds on chain.

    Parameters
    ----------
    address
        The wallet; your own, if not given.
    chain
        One chain; all that the gateway takes payments on, if not given.
    """
    client, screen = await session.public_client(), session.screen
    wallet = address or Signer(session.connection.required_key()).address
    names = [chain] if chain else [each.chain for each in (await client.chains()).chains]
    found = [await client.balance(wallet, chain=name) for name in names]
    screen.document({"address": wallet, "chains": found})
    screen.result(wallet)
    rows = [
        (on_chain.chain, each.symbol, each.balance)
        for on_chain in found
        for each in on_chain.balances
    ]
    screen.table(("CHAIN", "TOKEN", "BALANCE"), rows)


@client_command
async def sizes(session: Session, /) -> None:
    """List the sizes of apps: what they have, and what they cost a month, awake and asleep."""
    screen, found = session.screen, await (await session.public_client()).sizes()
    screen.document(found)
    rows = [
        (
            each.name,
            f"{each.memory_mib} MiB",
            f"{each.cpu_millis / 1000:g}",
            f"{each.disk_mib} MiB",
            f"{each.volume_mib} MiB",
            f"${each.usd_month:f}",
            f"${each.usd_month_asleep:f}",
            "" if each.available else "no room now",
        )
        for each in found.sizes
    ]
    screen.table(("NAME", "MEMORY", "CORES", "DISK", "VOLUME", "A MONTH", "ASLEEP", ""), rows)


@client_command
async def chains(session: Session, /) -> None:
    """List the chains and tokens the gateway takes."""
    screen, found = session.screen, await (await session.public_client()).chains()
    screen.document(found)
    rows = [(each.chain, str(each.chain_id), ", ".join(each.tokens)) for each in found.chains]
    screen.table(("CHAIN", "ID", "TOKENS"), rows)
