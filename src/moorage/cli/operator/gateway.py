"""The commands that move, save, restore and end a gateway, and show what is set."""

import asyncio
import shlex
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, Literal, ParamSpec, TypeVar

import msgspec
from cyclopts import Parameter

from moorage.cli.flags import Switch
from moorage.cli.main import Exit
from moorage.cli.screen import Screen, counted
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.money import decimal_text, usd_text

ActsReason = Annotated[str, Parameter(help="Why, for `moorage operator acts`.")]
RecordReason = Annotated[str, Parameter(help="Why, for the record.")]
Since = Annotated[
    str | None, Parameter(help="From this time on: 2026-04-07 or 2026-04-07T10:00:00Z.")
]
Until = Annotated[str | None, Parameter(help="Before this time.")]

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

if TYPE_CHECKING:
    from moorage.operate.backup import Saved
    from moorage.operate.books import OpenBooks
    from moorage.operate.engines import Base
    from moorage.operate.stopping import Left
    from moorage.settings import Settings
    from moorage.storage.apps.deployments import Placed
    from moorage.storage.operation.alerts import Alert, Channel
    from moorage.storage.operation.configuration import ConfigurationChange


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GatewayMeant:
    """The flags that say whose books are opened. The gateway may run meanwhile, or not."""

    config: Annotated[
        Path | None,
        Parameter(help="The gateway's settings, as TOML; without it those of `moorage dev`."),
    ] = None
    data_dir: Annotated[
        str | None,
        Parameter(help="Where it keeps everything, if not where the settings say."),
    ] = None

    def settings(self) -> "Settings":
        """Its settings. Raises InvalidField."""
        from moorage.settings import load_settings

        return load_settings(file=self.config, data_dir=self.data_dir)

    def in_books(
        self,
        act: "Callable[Concatenate[OpenBooks, _Given], Awaitable[_Answer]]",
        *given: _Given.args,
        **named: _Given.kwargs,
    ) -> _Answer:
        """What `act` returns, given its open books. Raises InvalidField, ConfigurationInvalid."""
        from moorage.operate.books import with_books

        return asyncio.run(with_books(self.settings(), act, *given, **named))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OperatorOptions(GatewayMeant):
    """The flags that the operator's commands share."""

    json: Annotated[bool, Parameter(help="Print one JSON document.", negative=())] = False

    def screen(self) -> Screen:
        """Where the command prints."""
        return Screen(json=self.json)


DEFAULTS = OperatorOptions()
_WEEK_MS = 7 * 86_400_000


def required(option: str, text: str) -> str:
    """What an argument says. Raises InvalidField without anything."""
    if not text:
        raise InvalidField(option, "name it")
    return text


def reason_option(text: str) -> str:
    """What `--reason` says. Raises InvalidField without anything."""
    if not text.strip():
        raise InvalidField("--reason", "say why, for the record")
    return text.strip()


def time_option(option: str, text: str | None, *, default: int) -> int:
    """Unix milliseconds of an ISO 8601 time, in UTC unless it says otherwise."""
    if text is None:
        return default
    with InvalidField.of(option, "must be a time such as 2026-04-07T10:00:00Z"):
        time = datetime.fromisoformat(text)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def wallet_option(option: str, text: str) -> str:
    """A wallet as the books spell it; "" when none is named. Raises InvalidField."""
    from moorage.address import parse_address

    with InvalidField.of(option):
        return parse_address(text) if text else ""


_NO_KEY = (
    "the key that variables are sealed with is NOT in it: keep {file} apart, or no app that has "
    "variables can be started (--with-key puts it in)"
)


Identity = Annotated[
    Path | None, Parameter(help="Of an off-site backup: the file with the private key.")
]
BucketKeys = Annotated[
    str, Parameter(help="The file with a bucket's keys; else the AWS_… variables, or a role.")
]


def backup(
    file: Path | None = None,
    /,
    *,
    to: str = "",
    with_key: Switch = False,
    new_key: Switch = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Save a gateway into one file, or encrypted off-site: database, apps, volumes, keys.

    The gateway may run meanwhile; each app that writes waits a moment while its disk is copied.
    The file holds the gateway's secrets. Without one, the backup is encrypted to
    `backup_recipient` and sent to `backup_to`, and old ones there are deleted.

    Parameters
    ----------
    file
        Where to; it must not exist yet.
    to
        Send it there, in place of `backup_to`: s3://bucket/prefix or file:///directory.
    with_key
        Save the key of `secrets_key_file` too; one in the data directory always is.
    new_key
        Only print a new private key for off-site backups, with its public key.
    """
    from moorage.operate.backup import back_up

    if new_key:
        return _print_new_key(options.screen())
    settings, screen = options.settings(), options.screen()
    if file is None:
        return _send_backup(settings, screen, to, with_key=with_key)
    if to:
        raise InvalidField("--to", "say either a file or where to send it")
    saved = back_up(settings, file, with_key=with_key)
    _warn_of(screen, saved, settings)
    size = file.stat().st_size
    screen.document({"file": str(file), "bytes": size} | _saved_document(saved))
    screen.result(f"{file}: {_saved_text(saved, size)}. Keep it as you keep the gateway's keys.")
    return Exit.FAILED if saved.key_problem else Exit.OK


def _print_new_key(screen: Screen) -> int:
    from moorage.backup.encryption import new_identity

    made = new_identity()
    recipient = made.to_public()
    screen.document({"identity": str(made), "recipient": str(recipient)})
    screen.result(f"# public key: {recipient}\n{made}")
    screen.note(
        "Store these two lines in two places, not on the gateway: without them no backup opens. "
        f'They are not shown again. The gateway gets backup_recipient = "{recipient}"'
    )
    return Exit.OK


def _send_backup(settings: "Settings", screen: Screen, to: str, *, with_key: bool) -> int:
    from moorage.operate.offsite import send

    if not (address := to or settings.backup_to):
        raise InvalidField("FILE", "name one, or say --to, or set backup_to")
    sent = send(settings, address, with_key=with_key)
    saved, size = sent.saved, sent.stored.size
    _warn_of(screen, saved, settings)
    screen.document(
        {"address": sent.address, "bytes": size, "pruned": sent.pruned} | _saved_document(saved)
    )
    screen.result(
        f"{sent.address}: {_saved_text(saved, size)}, encrypted. Old ones deleted: {sent.pruned}."
    )
    return Exit.FAILED if saved.key_problem else Exit.OK


def _warn_of(screen: Screen, saved: "Saved", settings: "Settings") -> None:
    for deployment_id in saved.lost:
        screen.warn(f"nothing is there of deployment {deployment_id}: it is not in the backup")
    if saved.key_problem:
        screen.warn(
            f"no app that has variables could be started after a restore: {saved.key_problem}"
        )
    if not saved.manifest.secrets_key and settings.secrets_key_file:
        screen.warn(_NO_KEY.format(file=settings.secrets_key_file))


def _saved_document(saved: "Saved") -> dict[str, object]:
    return {
        "apps": saved.apps,
        "volumes": saved.volumes,
        "secrets_key": saved.manifest.secrets_key,
        "lost": saved.lost,
        "key_problem": saved.key_problem,
    }


def _saved_text(saved: "Saved", size: int) -> str:
    return (
        f"{size:,} bytes; the database, {counted(saved.apps, 'version')} of apps, "
        f"{counted(saved.volumes, 'volume')}"
    )


def drill(
    address: str = "",
    /,
    *,
    identity: Identity = None,
    credentials: BucketKeys = "",
    with_key: Switch = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Prove that off-site backups restore: `moorage operator drill s3://… --identity FILE`.

    Restores the newest backup of a gateway's folder, or the one named, into a temporary directory
    and audits its books, without the chains. Without an address, which is for the gateway's own
    machine, it first sends one to `backup_to` and fetches that.

    Parameters
    ----------
    address
        The folder of a gateway, or one backup, as `moorage operator backup` names it; or a file.
    with_key
        Without an address: as for `moorage operator backup`.
    """
    from moorage.operate import offsite

    if address:
        source = offsite.saved_at(address, identity=identity, credentials_file=credentials)
        with offsite.naming(address):
            proof = offsite.prove(source)
    else:
        proof = offsite.drill(options.settings(), with_key=with_key)
    screen, saved = options.screen(), proof.saved
    screen.document(
        {"ok": not proof.problem, "created_at": saved.manifest.created_at}
        | {"gateway": saved.manifest.gateway, "version": saved.manifest.version}
        | {"wallets": proof.wallets, "balances_micro_usd": proof.balances}
        | {"payments": proof.payments, "heights": proof.heights, "findings": proof.findings}
        | _saved_document(saved)
    )
    screen.result(
        f"The gateway {saved.manifest.gateway} as it was at {saved.manifest.created_at}: "
        f"{counted(saved.apps, 'version')} of apps, {counted(saved.volumes, 'volume')}, "
        f"{counted(proof.wallets, 'wallet')} with {usd_text(proof.balances)}, "
        f"{counted(proof.payments, 'payment')}."
    )
    for chain, height in proof.heights.items():
        screen.result(f"{chain} is searched up to block {height}.")
    for finding in proof.findings:
        screen.result(f"WRONG {finding.row}: {finding.problem}")
    screen.result(f"NOT GOOD: {proof.problem}." if proof.problem else "It restores, and is right.")
    return Exit.FAILED if proof.problem else Exit.OK


def install(
    *,
    systemd: Switch = False,
    gateways: str = "",
    config: Path = Path("/etc/moorage/moorage.toml"),
    root: Path = Path("/"),
    yes: Annotated[bool, Parameter(help="Do it.", alias="-y", negative=())] = False,
    json: Switch = False,
) -> None:
    """Install a gateway's services; without --yes, only list the files and commands.

    Parameters
    ----------
    systemd
        Install units of systemd, the only way.
    gateways
        Names of several gateways, as a,b: each gets an operator's port; none starts without a name.
    config
        The gateway's settings, as TOML. They may be written afterwards.
    root
        Write below this directory, as for an image, and leave this machine's systemd alone.
    json
        Print one JSON document, with the files' text.
    """
    from moorage.errors import ConfigurationInvalid
    from moorage.operate.systemd import exposed, plan_installation
    from moorage.operate.systemd import install as install_services
    from moorage.settings import load_settings

    if not systemd:
        raise InvalidField("--systemd", "name it: there is no other way")
    program, config = Path(sys.prefix) / "bin/moorage", config.absolute()
    try:
        file = config if config.exists() else None
        names = [each for each in gateways.split(",") if each]
        for name in names:
            load_settings(file=file, gateway_name=name)
        settings = load_settings(file=file) if file else None
        if settings and names and not settings.database_url:
            raise InvalidField("--gateways", f"several share a database_url: set it in {config}")
        planned = plan_installation(
            program=program, config=config, root=root, settings=settings, gateways=names
        )
    except OSError as error:
        raise ConfigurationInvalid(f"not installed: {error}; it takes root") from error
    if yes:
        install_services(planned)
    screen = Screen(json=json)
    if not settings:
        screen.warn(f"{config} is not there: write it before the gateway starts")
    for path in (program, config):
        if place := exposed(path):
            screen.warn(f"who may write to {place}, beside root, becomes root by {path}")
    screen.document(planned)
    rows = [("directory", each, "new") for each in planned.directories]
    rows += [("file", each.path, str(each.change)) for each in planned.files]
    rows += [("command", shlex.join(each), "") for each in planned.commands]
    screen.table(("WHAT", "", ""), rows)
    if not yes:
        screen.result("Nothing was done. The same with --yes does it.")
        return
    screen.result(f"Next: moorage check --config {config}")
    units = [f"moorage@{name}" for name in names] or ["moorage.service"]
    start = shlex.join(["systemctl", "enable", "--now", *units, "moorage-backup.timer"])
    screen.result(f"and then: {'systemctl stop moorage && ' * bool(names)}{start}")


def restore(
    file: str,
    /,
    *,
    data_dir: Path | None = None,
    identity: Identity = None,
    credentials: BucketKeys = "",
    project: str = "",
    to: Path | None = None,
    public_key: str = "",
    json: Switch = False,
) -> None:
    """Put a backup into an empty directory: all of it, or nothing; or take one project out of it.

    Never run the old gateway and the new one at the same time: each would credit the same payments.

    Parameters
    ----------
    file
        What `moorage operator backup` wrote; off-site its address, or its folder's for the newest.
    data_dir
        Where to; it must be empty, or not there yet.
    project
        Only write an archive of the project of this name, which its owner can deploy again.
    to
        With --project: the file to write, NAME.tar if not given.
    public_key
        With --project: the owner's key, to which the values of its variables are sealed.
    json
        Print one JSON document.
    """
    from moorage.operate.backup import restore as put_back
    from moorage.operate.backup import restore_project
    from moorage.operate.offsite import naming, saved_at

    screen = Screen(json=json)
    source = saved_at(file, identity=identity, credentials_file=credentials)
    if project:
        target = (to or Path(f"{project}.tar")).absolute()
        with naming(file):
            sha256 = restore_project(source, project, target, public_key=public_key or None)
        screen.document({"file": str(target), "sha256": sha256})
        screen.result(f"{target}: sha256 {sha256}")
        screen.result(f"Its owner deploys it: moorage deploy {target} --name NAME")
        return
    if data_dir is None:
        raise InvalidField("--data-dir", "say where to")
    with naming(file):
        saved = put_back(source, data_dir.absolute())
    made_at = saved.manifest.created_at
    screen.document(
        {"data_dir": str(data_dir), "created_at": made_at}
        | {"apps": saved.apps, "volumes": saved.volumes}
        | {"secrets_key": saved.manifest.secrets_key}
    )
    screen.result(
        f"{data_dir}: the gateway as it was at {made_at}. Next: in its configuration set data_dir "
        "to it and take database_url out, as its books are a file now; start it with `moorage "
        "serve --config …`. For a minute it refuses requests that were signed before, so that none "
        "is carried out twice."
    )


def migrate_database(*, options: OperatorOptions = DEFAULTS) -> None:
    """Move the books from the file in the data directory to the server of `database_url`.

    Stop the gateway first. The server's database must be empty. All rows are copied in one
    transaction and compared one by one; the file is kept under another name.
    """
    from moorage.operate.moving import move_books

    moved = asyncio.run(move_books(options.settings()))
    screen = options.screen()
    screen.document(moved)
    balances = decimal_text(moved.balances_micro_usd, decimals=6)
    screen.result(
        f"{sum(moved.rows.values())} rows are on the server, each as it was; balances are "
        f"${balances}. The file is {moved.file} now. Next: start the gateway with the same "
        "database_url, and delete the file once `moorage operator audit` is content."
    )


def stop(*, reason: ActsReason = "", options: OperatorOptions = DEFAULTS) -> None:
    """End the apps and the proxy of a gateway that you have stopped: `moorage operator stop`.

    Only its data stays on the machine, and nobody is billed; the next `serve` starts
    all of it again. It refuses while `serve` runs: `systemctl stop moorage` first.
    """
    from moorage import logs
    from moorage.operate.stopping import run_stop

    settings = options.settings()
    logs.configure(level="warning")
    stopped = asyncio.run(run_stop(settings, reason=reason.strip()))
    screen = options.screen()
    screen.document({"stopped": stopped})
    screen.result(f"Stopped {counted(stopped.apps, 'app')} and the proxy. All data is kept.")


def retire(
    target: Path,
    /,
    *,
    reason: ActsReason = "",
    i_know: Switch = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """End a stopped gateway for good: `moorage operator retire /var/backups/moorage-books`.

    Lists who still has credits, held payments or projects, and what money is on its way; as long as
    there is any, nothing else is done. Otherwise writes the ledger into a new directory, ends all
    that runs, and removes apps, volumes, certificates, keys and caches. The database stays.

    Parameters
    ----------
    target
        The directory to make, with ledger.csv and owed.csv.
    i_know
        Retire it although somebody is owed something: their apps and volumes are gone afterwards.
    """
    from moorage import logs
    from moorage.operate.stopping import run_retire

    settings, why = options.settings(), reason_option(reason)
    logs.configure(level="warning")
    done = asyncio.run(run_retire(settings, target.absolute(), reason=why, owing=i_know))
    screen = options.screen()
    screen.document({"retired": done.is_retired, "left": done.left, "kept": done.kept})
    _show(screen, done.left)
    if not done.is_retired:
        screen.result("Not retired: settle this first, or pass --i-know.")
        return Exit.FAILED
    screen.result(f"Retired. The ledger is in {target}; {settings.data_dir} keeps:")
    for name in done.kept:
        screen.result(f"  {name}")
    return Exit.OK


def _show(screen: Screen, left: "Left") -> None:
    screen.table(
        ("WALLET", "CREDITS", "HELD", "PROJECTS"),
        [
            (
                each.wallet,
                usd_text(each.credits_micro_usd),
                usd_text(each.held_micro_usd),
                " ".join(each.projects),
            )
            for each in left.owed
        ],
        none="Nobody is owed anything.",
    )
    for what in left.on_its_way:
        screen.result(f"On its way: {what}")


_NOT_NOTED = "not noted yet"


def engine(
    what: Literal["list", "move"],
    name: str = "",
    /,
    *,
    to: str = "",
    every: Annotated[bool, Parameter(name="--all", negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List projects by engine, or move them: `moorage operator engine move --all --to docker`.

    A move builds the project's files again on the other engine and switches to that once it is
    healthy; until then, and if it fails, the old version serves. The gateway makes the moves, as
    many at once as builds; `moorage operator engine list` says how they end. Before, set
    `isolation` to the new engine and `moving_from` to the old one, and restart the gateway.

    Parameters
    ----------
    what
        `list` says which engine each project is on, `move` begins moves.
    name
        The project to move.
    to
        The engine to move to, as the setting `isolation` names it.
    every
        Move all projects that are not there yet.
    """
    from moorage.operate.engines import placed, run_move

    settings, screen = options.settings(), options.screen()
    if what == "list":
        _engines_show(screen, options.in_books(placed))
        return Exit.OK
    _require_one(name, every=every, to=to)
    found = asyncio.run(run_move(settings, name, to))
    screen.document({"moves": [{"name": each, "refused": why or None} for each, why in found]})
    for each, why in found:
        screen.result(f"{each} stays: {why}" if why else f"{each} moves to {to}")
    if not found:
        screen.note(f"every project is on {to}")
    return Exit.FAILED if any(why for _, why in found) else Exit.OK


def bases(*, pin: Switch = False, options: OperatorOptions = DEFAULTS) -> int:
    """List the images that builds begin with: `moorage operator bases`.

    Those of projects that serve, as their next build asks for them, and the digests that the
    registries have now. Dockerfiles name their own.

    Parameters
    ----------
    pin
        Print `base_images` with these digests, for the settings: builds begin with them until you
        change it. A program has one image then, whatever version an app asks for.
    """
    from moorage.operate.engines import pins, run_bases

    settings, screen = options.settings(), options.screen()
    found = asyncio.run(run_bases(settings))
    if pin:
        pinned = pins(found, settings)
        screen.document({"base_images": pinned})
        screen.result("[images.base_images]")
        for program, image in pinned.items():
            screen.result(f'{program} = "{image}"')
        _warn_of_others(screen, found)
    else:
        screen.document({"bases": found})
        rows = [
            (each.program, each.image, str(each.projects), _pinned(each), each.digest or each.why)
            for each in found
        ]
        none = "No project that serves was built on an image."
        screen.table(("PROGRAM", "IMAGE", "PROJECTS", "PINNED", "DIGEST NOW"), rows, none=none)
    return Exit.FAILED if any(each.why for each in found) else Exit.OK


def _pinned(base: "Base") -> str:
    return "yes" if base.is_pinned else "no"


def _warn_of_others(screen: Screen, found: "list[Base]") -> None:
    """Says which images are not in the setting, as it has one for each program."""
    seen: set[str] = set()
    for each in found:
        if each.why:
            screen.warn(f"{each.image} is left out: {each.why}")
        elif each.program in seen:
            screen.warn(f"{each.image} is left out: more projects use another of {each.program}")
        else:
            seen.add(each.program)


def _require_one(name: str, *, every: bool, to: str) -> None:
    if every == bool(name):
        raise InvalidField("NAME", "name a project, or all of them with --all")
    if not to:
        raise InvalidField("--to", "name the engine to move to")


def _engines_show(screen: Screen, found: "list[Placed]") -> None:
    counts = Counter(each.engine or _NOT_NOTED for each in found)
    listed = [each._asdict() for each in found]
    screen.document({"engines": counts, "projects": listed})
    rows = [(each.name, each.wallet, each.engine or _NOT_NOTED, _move(each)) for each in found]
    screen.table(("NAME", "WALLET", "ENGINE", "MOVE"), rows, none="No project serves.")
    if found:
        screen.note(", ".join(f"{number} on {name}" for name, number in sorted(counts.items())))


def _move(placed: "Placed") -> str:
    if placed.move is None:
        return "-"
    return f"{placed.move}: {placed.reason}" if placed.reason else str(placed.move)


def config(
    what: Literal["show", "diff", "history"], /, *, options: OperatorOptions = DEFAULTS
) -> None:
    """Show the settings, or what changed or would change: `moorage operator config diff`.

    Secrets are told by a fingerprint alone.

    Parameters
    ----------
    what
        `show` prints each setting and where it comes from, `diff` what is different from the last
        start, `history` what starts have changed.
    """
    from moorage.operate.books import effective_settings, history, next_changes

    settings, screen = options.settings(), options.screen()
    if what == "show":
        listed = effective_settings(settings, file=options.config)
        screen.document({"settings": listed})
        rows = [(each.setting, each.origin, _text(each.value)) for each in listed]
        screen.table(("SETTING", "FROM", "VALUE"), rows)
        return
    if what == "diff":
        changes = options.in_books(next_changes, settings)
    else:
        changes = options.in_books(history)
    screen.document({"changes": changes})
    for change in changes:
        screen.result(_change_text(change, dated=what == "history"))
    if not changes:
        screen.result("Nothing is different." if what == "diff" else "No start changed anything.")


def alerts(
    what: Literal["list", "test"] = "list", /, *, options: OperatorOptions = DEFAULTS
) -> int:
    """List what is wrong with a gateway, and what was this week: `moorage operator alerts`.

    `moorage operator alerts test` sends a message by each way that is set, and says what was
    answered; it exits with 1 when one was not taken.

    Parameters
    ----------
    what
        `list` alerts, or `test` how you are told of them.
    """
    from moorage.clock import SystemClock
    from moorage.gateway.alert_channels import alert_document, send_test

    settings, screen, now_ms = options.settings(), options.screen(), SystemClock().now_ms()
    if what == "list":
        found, channels = asyncio.run(_alerts(settings, now_ms - _WEEK_MS))
        documents = [alert_document(each) for each in found]
        screen.document({"alerts": documents, "channels": channels})
        columns = ("state", "severity", "rule", "began", "ended", "summary")
        rows = [tuple(each[column] or "-" for column in columns) for each in documents]
        screen.table([each.upper() for each in columns], rows, none="No alert this week.")
        for channel in channels:
            if channel.error:
                screen.warn(f"the last message by {channel.name} was not taken: {channel.error}")
        return Exit.OK
    tried = asyncio.run(send_test(settings, now_ms=now_ms))
    screen.document(
        {"tried": [{"channel": name, "ok": ok, "answer": said} for name, ok, said in tried]}
    )
    for name, ok, said in tried:
        screen.result(f"{name}: {'ok' if ok else 'FAILED'}: {said}")
    if not tried:
        screen.note("neither alert_webhook nor alert_mail_to is set; see docs/run/watch.md")
    return Exit.OK if tried and all(ok for _, ok, _ in tried) else Exit.FAILED


async def _alerts(settings: "Settings", since_ms: int) -> "tuple[list[Alert], list[Channel]]":
    from moorage.operate.books import open_books
    from moorage.storage.operation.alerts import channels, recent

    async with open_books(settings) as books:
        return await recent(books.db, since_ms=since_ms), [*(await channels(books.db)).values()]


def acts(*, since: Since = None, options: OperatorOptions = DEFAULTS) -> None:
    """List what operators did by commands, who it was, and why."""
    from moorage.operate.books import acts as acts_since

    since_ms = time_option("--since", since, default=0)
    found = options.in_books(acts_since, since_ms=since_ms)
    screen = options.screen()
    screen.document({"acts": found})
    rows = [(iso_utc(it.at_ms), it.who, it.act, it.subject, it.reason) for it in found]
    screen.table(("TIME", "WHO", "ACT", "SUBJECT", "REASON"), rows, none="Nothing was done.")


def recipient(
    what: Literal["list", "retire"],
    address: str = "",
    /,
    *,
    reason: RecordReason = "",
    options: OperatorOptions = DEFAULTS,
) -> None:
    """List each former `pay_to`, or give one up: `moorage operator recipient retire 0x…`.

    One that is retired must hold no token on any chain; payments to it are not credited any more.

    Parameters
    ----------
    what
        `list` lists them with what they hold, `retire` gives one up.
    address
        The address to give up.
    """
    from moorage.operate.retiring import recipients, retire_recipient

    screen = options.screen()
    if what == "retire":
        wanted, why = wallet_option("ADDRESS", required("ADDRESS", address)), reason_option(reason)
        options.in_books(retire_recipient, wanted, reason=why)
        screen.document({"retired": wanted})
        screen.result(f"{wanted} is retired. Restart the gateway; keep the key all the same.")
        return
    seen = options.in_books(recipients)
    screen.document({"recipients": seen})
    for each in seen:
        retired = each.retired_at_ms
        state = "pay_to" if each.is_pay_to else "former"
        state = state if retired is None else f"retired {iso_utc(retired)}"
        holds = ", ".join(f"{it.amount} {it.token} on {it.chain}" for it in each.holds)
        since = iso_utc(each.since_ms)
        screen.result(f"{each.address} {state}, since {since}: {holds or 'empty'}")


def base_domain(
    what: Literal["list", "retire"],
    domain: str = "",
    /,
    *,
    reason: RecordReason = "",
    options: OperatorOptions = DEFAULTS,
) -> None:
    """List the domains that were ever `base_domain`, or stop serving apps below one.

    Parameters
    ----------
    what
        `list` lists them, `retire` gives one up from the next start on.
    domain
        The domain to give up.
    """
    from moorage.operate.retiring import base_domains, retire_base_domain

    screen = options.screen()
    if what == "retire":
        wanted, why = required("DOMAIN", domain), reason_option(reason)
        options.in_books(retire_base_domain, wanted, reason=why)
        screen.document({"retired": wanted})
        screen.result(f"{wanted} is retired: restart the gateway.")
        return
    found = options.in_books(base_domains)
    documents = [
        {"domain": each.value, "since_ms": each.since_ms, "retired_at_ms": each.retired_at_ms}
        for each in found
    ]
    screen.document({"base_domains": documents})
    for each in found:
        retired = "" if each.retired_at_ms is None else f", retired {iso_utc(each.retired_at_ms)}"
        screen.result(f"{each.value} since {iso_utc(each.since_ms)}{retired}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _change_text(change: "ConfigurationChange", *, dated: bool) -> str:
    when = f"{iso_utc(change.at_ms)} " if dated else ""
    before = "(not recorded)" if change.before is None else change.before
    after = "(taken out)" if change.after is None else change.after
    return f"{when}{change.setting}: {before} → {after}"
