"""The operator's commands over customers: wallets, credits, suspension, eviction, prices, rules."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from moorage.cli.flags import Switch
from moorage.cli.operator.gateway import (
    DEFAULTS,
    ActsReason,
    OperatorOptions,
    reason_option,
    time_option,
    wallet_option,
)
from moorage.cli.screen import Screen, counted
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.money import usd_text

if TYPE_CHECKING:
    from moorage.operate.customers.evictions import EvictedProject, Subject
    from moorage.operate.customers.prices import ProjectPrice
    from moorage.records.project import Project
    from moorage.storage.money.grants import Grant


def suspend(
    name: str = "", /, *, reason: str = "", wallet: str = "", options: OperatorOptions = DEFAULTS
) -> None:
    """Suspend a project whatever its credits: `moorage operator suspend NAME --reason "…"`.

    A running gateway stops it within seconds and ends its billing. Its name, files and credits are
    kept until its owner deletes it or `moorage operator resume` lifts this.

    Parameters
    ----------
    name
        The project's name.
    reason
        Why: its deployer sees it.
    wallet
        Suspend all projects of this wallet instead, and refuse its deploys. Its credits stay, and
        can be refunded.
    """
    from moorage.operate.customers import evictions

    subject = _subject(name, wallet)
    found = options.in_books(evictions.suspend, subject, reason_option(reason))
    _tell(options.screen(), "suspended", found)


def resume(name: str = "", /, *, wallet: str = "", options: OperatorOptions = DEFAULTS) -> None:
    """Lift what `moorage operator suspend` did; from then on credits decide whether an app runs.

    Parameters
    ----------
    name
        The project's name.
    wallet
        Instead everything of this wallet, single projects as well.
    """
    from moorage.operate.customers.evictions import unsuspend

    found = options.in_books(unsuspend, _subject(name, wallet))
    _tell(options.screen(), "resumed", found)


def suspended(*, options: OperatorOptions = DEFAULTS) -> None:
    """List the projects and wallets that you have suspended, and why."""
    from moorage.operate.customers import evictions

    found = options.in_books(evictions.suspended)
    screen = options.screen()
    screen.document({"suspended": [each._asdict() for each in found]})
    rows = [(each.unique_name or "(all)", each.wallet, each.reason) for each in found]
    screen.table(("NAME", "WALLET", "REASON"), rows, none="Nothing is suspended.")


def _subject(name: str, wallet: str) -> "Subject":
    from moorage.operate.customers.evictions import Subject

    if bool(name) == bool(wallet):
        raise InvalidField("NAME", "name a project, or a wallet with --wallet")
    return Subject(name, wallet_option("--wallet", wallet))


def _tell(screen: Screen, done: str, found: "list[Project]") -> None:
    listed = [{"id": each.id, "name": each.unique_name, "wallet": each.wallet} for each in found]
    screen.document({done: listed})
    for each in found:
        screen.result(f"{each.unique_name} of {each.wallet} is {done}")
    if not found:
        screen.note(f"no project is {done} by this")


def evict(
    name: str = "",
    /,
    *,
    reason: str = "",
    days: float = 14.0,
    export: bool = True,
    cancel: Switch = False,
    options: OperatorOptions = DEFAULTS,
) -> None:
    """Delete a project of anybody's for good: `moorage operator evict NAME --reason "…" --days 14`.

    Its owner is told by an event, with the reason and the date, and by another one where to fetch
    an archive is; the wallet keeps its credits. A running gateway makes the archive, then deletes
    the project when it is due. Without a name, lists what is to be deleted, what could not be, and
    why. `moorage operator suspend` stops a project and keeps it.

    Parameters
    ----------
    name
        The project's name.
    reason
        Why: told to its owner.
    days
        How many days it has left; 0 deletes it at once.
    export
        Give its owner an archive of files, volume and logs first.
    cancel
        Keep it after all.
    """
    from moorage.operate.customers import evictions

    if not 0 <= days <= 3650:
        raise InvalidField("--days", "must be from 0 to 3650")
    kept = ""
    if cancel or reason:
        if not name:
            raise InvalidField("NAME", "name the project")
        if cancel:
            kept = options.in_books(evictions.keep, name)
        else:
            told = reason_option(reason)
            options.in_books(evictions.evict, name, reason=told, days=days, with_export=export)
    elif name:
        raise InvalidField("--reason", "say why, for its owner")
    found = options.in_books(evictions.evicted)
    screen = options.screen()
    screen.document({"evictions": found})
    if kept:
        screen.result(f"{kept} is kept: it is not to be deleted any more.")
    if found or not kept:
        screen.table(
            ("NAME", "DUE AT", "WALLET", "REASON"),
            [(each.name, each.at, each.wallet, each.reason) for each in found],
            none="No project is to be deleted.",
        )
    for line in (line for each in found for line in waits(each)):
        screen.result(line)


def waits(project: "EvictedProject") -> list[str]:
    """Lines on why a deletion waits, what that means, and what to do; none if nothing failed."""
    name, failed = project.name, project.failed
    if failed is None:
        return []
    can_do_without = project.with_export and not project.has_begun
    undone = "exported" if can_do_without else "deleted"
    lines = ["", f"{name} could not be {undone} at {failed.at}: {failed.why}"]
    again = "It is tried again by itself, each hour at least."
    if project.has_begun:
        return [*lines, f"  Its deletion has begun, and can't be cancelled. {again}"]
    lines.append(f"  Nothing of it is deleted. {again} Fix the cause, or:")
    evict = f"  moorage operator evict {name}"
    if can_do_without:
        lines.append(f'{evict} --reason "…" --days 0 --no-export   deletes it without an archive')
    return [*lines, f"{evict} --cancel   keeps it"]


_NOTHING_SAID = "(nothing is said)"


def maintenance(
    what: Literal["on", "off", "show"] = "show",
    words: str = "",
    /,
    *,
    options: OperatorOptions = DEFAULTS,
) -> None:
    """Refuse new deploys for a while: `moorage operator maintenance on "back at 14:00 UTC"`.

    What runs continues, as do top-ups, rollbacks, restarts and deployments that were accepted or
    paid for before. It takes effect at once, in all gateways of the database.

    Parameters
    ----------
    what
        `on`, `off`, or `show`.
    words
        What those who would deploy are told.
    """
    from moorage.operate.customers import overview

    if what != "show":
        options.in_books(overview.maintenance, begin=what == "on", words=words.strip())
    text = options.in_books(overview.notices).get("maintenance")
    screen = options.screen()
    screen.document({"maintenance": text is not None, "text": text or ""})
    if text is None:
        screen.result("No maintenance: deploys are taken.")
    else:
        screen.result(f"Maintenance: new deploys are refused. {text or _NOTHING_SAID}")


def announce(
    words: str = "", /, *, end: Switch = False, options: OperatorOptions = DEFAULTS
) -> None:
    """Tell all customers something: `moorage operator announce "prices change on 1 May"`.

    Each wallet that has a project gets an event (`gateway.announcement`), and so its webhook;
    `GET /agent/credits` shows it until `--end`, or the next one. Without words, shows the current
    one.

    Parameters
    ----------
    words
        What they are told.
    end
        Show it no longer.
    """
    from moorage.operate.customers import overview

    told = 0
    if words.strip() or end:
        told = options.in_books(overview.announce, "" if end else words.strip())
    text = options.in_books(overview.notices).get("announcement", "")
    screen = options.screen()
    screen.document({"announcement": text, "told": told})
    screen.result(text or "Nothing is announced.")
    if told:
        screen.note(f"told to {counted(told, 'wallet')}")


def allow(
    wallet: str = "",
    /,
    *,
    listed: bool | None = None,
    projects: int | None = None,
    options: OperatorOptions = DEFAULTS,
) -> None:
    """List a wallet, or limit its projects: `moorage operator allow 0x… --listed`.

    With the setting `listed_wallets_only` only listed wallets can deploy and pay. Without a wallet,
    shows what single wallets are allowed. To ban one, see `moorage operator suspend --wallet`.

    Parameters
    ----------
    wallet
        The wallet.
    listed
        List it, or take it off the list.
    projects
        How many projects it may have, in place of `projects_per_wallet`; -1: as that says.
    """
    from moorage.operate.customers import overview

    changes = listed is not None or projects is not None
    if bool(wallet) != changes:
        raise InvalidField(
            "WALLET", "name a wallet and --listed, --no-listed or --projects N; or nothing at all"
        )
    if changes:
        address = wallet_option("WALLET", wallet)
        options.in_books(overview.allow, address, listed=listed, max_projects=projects)
    found = options.in_books(overview.allowed)
    screen = options.screen()
    screen.document({"wallets": found})
    screen.table(
        ("WALLET", "LISTED", "PROJECTS"),
        [
            (
                each.wallet,
                "yes" if each.is_listed else "no",
                "as the setting" if each.max_projects is None else str(each.max_projects),
            )
            for each in found
        ],
        none="Every wallet is allowed the same.",
    )


def prices(
    what: Literal["show", "preview", "order", "cancel"] = "show",
    date: str = "",
    /,
    *,
    reason: str = "",
    options: OperatorOptions = DEFAULTS,
) -> None:
    """Give existing projects the list's price: `moorage operator prices preview 2027-03-01`.

    A project keeps the price that it was made with until you order another: that of the settings.
    It counts from the date; a higher one not before the project has run for the months that its
    first deploy paid for. Each owner is told by an event, now and when it counts.

    Parameters
    ----------
    what
        `show` lists what projects cost and what is ordered, `preview` what an order would change;
        `order` orders it; `cancel` takes back what does not count yet.
    date
        From when the new price counts: 2027-03-01 or 2027-03-01T10:00:00Z. A higher one at least
        `price_notice_days` from now.
    reason
        Why: told to the owners of an order, and kept for `moorage operator acts`.
    """
    from moorage.operate.customers import prices as orders

    settings, screen = options.settings(), options.screen()
    if what == "cancel":
        kept = options.in_books(orders.cancel, reason=reason_option(reason))
        screen.document({"cancelled": kept})
        screen.result(f"Taken back: {counted(kept, 'project')} will not change in price.")
        return
    if what == "show":
        found = options.in_books(orders.prices)
    elif what == "preview":
        found = options.in_books(orders.preview, settings, from_ms=_date(date))
    else:
        why = reason_option(reason)
        found = options.in_books(orders.order, settings, from_ms=_date(date), reason=why)
    screen.document({"prices": found})
    _show(screen, found, none="There is no project." if what == "show" else "No price changes.")
    if what == "order" and found:
        screen.note("Told to their owners. New projects cost it from the next restart on.")


def _date(text: str) -> int:
    if not text:
        raise InvalidField("DATE", "say from when the new price counts, such as 2027-03-01")
    return time_option("DATE", text, default=0)


def _show(screen: Screen, found: Sequence["ProjectPrice"], *, none: str) -> None:
    screen.table(
        ("NAME", "A MONTH", "THEN", "FROM", "WALLET"),
        [
            (
                each.name,
                usd_text(each.now),
                "" if each.then is None else usd_text(each.then),
                "" if each.from_ms is None else iso_utc(each.from_ms),
                each.wallet,
            )
            for each in found
        ],
        none=none,
    )


def link(*, options: OperatorOptions = DEFAULTS) -> None:
    """Print a link that opens the operator's pages: `moorage operator link`.

    It opens them once, within 10 minutes, in a browser that reaches the operator's port; what is
    done there is recorded under your name. From elsewhere: `ssh -L 8403:127.0.0.1:8403 HOST`.
    """
    from moorage.operate.access import operator_address, operator_link

    screen = options.screen()
    address = operator_address(options.settings())
    made = options.in_books(operator_link, address=address)
    until = datetime.fromtimestamp(made.expires_ms // 1000, UTC).isoformat()
    screen.document({"url": made.url, "expires_at": until.replace("+00:00", "Z")})
    screen.result(made.url)
    screen.note("It opens once, within 10 minutes.")


def end(*, reason: ActsReason = "", options: OperatorOptions = DEFAULTS) -> None:
    """Sign every operator out of the pages, and take back the links that nobody opened."""
    from moorage.operate.access import end_access

    screen = options.screen()
    ended = options.in_books(end_access, reason=reason_option(reason))
    screen.document(ended)
    screen.result(f"Ended {ended.sessions} sessions, and took back {ended.links} links.")


_MIB = 1024 * 1024


def wallets(*, options: OperatorOptions = DEFAULTS) -> None:
    """List every wallet: its credits, what it burns, when they run out, what it paid."""
    from moorage.operate.customers import overview

    found = options.in_books(overview.wallets)
    screen = options.screen()
    screen.document({"wallets": found})
    screen.table(
        (
            "WALLET",
            "CREDITS",
            "A MONTH",
            "RUN OUT",
            "PAID",
            "GIVEN",
            "ACTIVE",
            "SUSPENDED",
            "SINCE",
        ),
        [
            (
                each.wallet,
                usd_text(each.balance),
                usd_text(each.a_month),
                "-" if each.runs_out_at_ms is None else iso_utc(each.runs_out_at_ms)[:16] + "Z",
                usd_text(each.paid),
                usd_text(each.given),
                str(each.active),
                "all, by you" if each.blocked_reason else str(each.suspended),
                iso_utc(each.since_ms)[:10],
            )
            for each in found
        ],
        none="No wallet has paid yet.",
    )


def every_project(*, hours: int, options: OperatorOptions) -> None:
    """Prints the projects of all wallets; as `moorage projects --all` does."""
    from moorage.operate.customers import overview

    found = options.in_books(overview.projects, hours=hours)
    screen = options.screen()
    screen.document({"projects": [{**each.project._asdict(), "runs": each.runs} for each in found]})
    screen.table(
        ("NAME", "STATUS", "A MONTH", "REQUESTS", "CPU", "MEMORY", "SENT", "WALLET"),
        [
            (
                row.name,
                _status(row.status, row.blocked_reason, row.asleep_since_ms),
                usd_text(row.monthly_price),
                str(row.requests),
                f"{row.cpu_ms / 1000:.1f} s",
                f"{row.memory_peak_bytes // _MIB} MiB",
                f"{row.bytes_out // _MIB} MiB",
                row.wallet,
            )
            for row in (each.project for each in found)
        ],
        none="No projects yet.",
    )


def credit(
    wallet: str = "",
    usd: str = "",
    /,
    *,
    reason: str = "",
    undo: str = "",
    options: OperatorOptions = DEFAULTS,
) -> None:
    """Give a wallet credits without a payment: `moorage operator credit 0x… 5.00 --reason "…"`.

    Its suspended apps start as after a payment. Without a wallet, lists what was given.

    Parameters
    ----------
    wallet
        Who gets them.
    usd
        How much, in dollars, with six places at most.
    reason
        Why: recorded, and told to the wallet.
    undo
        The id of credits that were given by mistake: takes them back, if the wallet has as many.
    """
    from moorage.operate.customers import overview

    screen = options.screen()
    if undo:
        given = [options.in_books(overview.undo_grant, undo)]
    elif wallet:
        address, amount = wallet_option("WALLET", wallet), overview.granted("USD", usd)
        why = reason_option(reason)
        given = [options.in_books(overview.grant, wallet=address, amount=amount, reason=why)]
    elif usd or reason:
        raise InvalidField("WALLET", "name the wallet that gets the credits")
    else:
        given = list(options.in_books(overview.all_grants))
    screen.document({"grants": given})
    for each in given:
        screen.result(_grant_text(each))
    if not given:
        screen.result("Nobody was given credits.")


def _grant_text(given: "Grant") -> str:
    undone = "" if given.undone_at_ms is None else f", taken back {iso_utc(given.undone_at_ms)}"
    return (
        f"{iso_utc(given.created_at_ms)} {usd_text(given.amount_micro_usd)} to {given.wallet}: "
        f"{given.reason} ({given.id}{undone})"
    )


def _status(status: str, blocked_reason: str | None, asleep_since_ms: int | None) -> str:
    if blocked_reason is not None:
        return f"{status}, by you"
    return "asleep" if asleep_since_ms is not None else status
