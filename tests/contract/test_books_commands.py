"""The operator's commands over books that are open elsewhere too."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from moorage.cli.main import run
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import MicroUsd
from moorage.operate.export import spreadsheet_text
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import accounts
from moorage.storage.operation import evictions
from moorage.storage.operation.evictions import Eviction, FailedTry
from support.books.records_fixture import ALICE, BOB, CAROL, add_project, transfer
from support.gateway.clock import HOUR_MS, START_MS


@pytest.fixture
def config(db_path: Path) -> str:
    path = db_path.parent / "moorage.toml"
    path.write_text(
        f'data_dir = "{db_path.parent}"\n[payments]\npay_to = "{CAROL}"\n'
        '[chains.arbitrum]\nrpc_urls = ["http://127.0.0.1:1/"]\n'
    )
    return str(path)


async def moorage(*arguments: str) -> int:
    """The command's exit code; beside the loop that has the database open."""
    return await asyncio.to_thread(run, arguments)


async def credit(db: Database, sent: Transfer, *, at_ms: int, held: bool = False) -> None:
    reasons = {sent.payer: "on a list"} if held else {}
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], held=reasons, now_ms=at_ms)


PAID = transfer(ALICE, 1_500_000, tx_hash="0x" + "11" * 32)
HELD = transfer(ALICE, 700_000, tx_hash="0x" + "22" * 32, log_index=4)
OTHER = transfer(BOB, 3, tx_hash="0x" + "33" * 32)
PAYMENT = f"""\
2026-04-07T10:00:00.000Z,payment:42161:{PAID.tx_hash}:0,payment,wallet:{ALICE},1500000,1.500000
"""
RECEIVED = f"""\
2026-04-07T10:00:00.000Z,payment:42161:{PAID.tx_hash}:0,payment,received:42161:usdc,-1500000,-1.500000
"""
BURN = f"""\
2026-04-07T11:00:00.000Z,burn:1,burn,wallet:{ALICE},-2055,-0.002055
"""
EARNED = """\
2026-04-07T11:00:00.000Z,burn:1,burn,earned,2055,0.002055
"""
HOLD = f"""\
2026-04-07T12:00:00.000Z,payment:42161:{HELD.tx_hash}:4,payment,held:{ALICE},700000,0.700000
"""
SET_APART = f"""\
2026-04-07T12:00:00.000Z,payment:42161:{HELD.tx_hash}:4,payment,received:42161:usdc,-700000,-0.700000
"""
OTHERS = f"""\
2026-04-07T12:00:00.000Z,payment:42161:{OTHER.tx_hash}:0,payment,wallet:{BOB},3,0.000003
2026-04-07T12:00:00.000Z,payment:42161:{OTHER.tx_hash}:0,payment,received:42161:usdc,-3,-0.000003
"""


@pytest.fixture
async def books(db: Database) -> Database:
    await credit(db, PAID, at_ms=START_MS)
    async with db.transaction(durable=True) as tx:
        await ledger.burn(
            tx,
            [ledger.Burn("p", ALICE, MicroUsd(2_055), "burn:1", START_MS)],
            now_ms=START_MS + HOUR_MS,
        )
    await credit(db, HELD, at_ms=START_MS + 2 * HOUR_MS, held=True)
    await credit(db, OTHER, at_ms=START_MS + 2 * HOUR_MS)
    return db


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], PAYMENT + RECEIVED + BURN + EARNED + HOLD + SET_APART + OTHERS),
        (["--wallet", ALICE], PAYMENT + BURN + HOLD),
        (["--wallet", "0X" + BOB[2:].upper()], OTHERS.splitlines(keepends=True)[0]),
        (["--since", "2026-04-07T11:00:00Z", "--until", "2026-04-07T12:00:00Z"], BURN + EARNED),
        (
            ["--since", "2026-04-07T13:00+02:00", "--until", "2026-04-07T11:00:00.001"],
            BURN + EARNED,
        ),
        (["--until", "2026-04-07"], ""),
        (["--since", "2026-04-08"], ""),
    ],
)
async def test_ledger_is_exported_entry_by_entry(
    books: Database,
    config: str,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    expected: str,
) -> None:
    assert await moorage("operator", "ledger", "export", "--config", config, *options) == 0
    heading = "time,posting,kind,account,amount_micro_usd,amount_usd\n"
    assert capsys.readouterr().out == heading + expected


@pytest.mark.parametrize(
    "options", [["--since", "yesterday"], ["--until", "2026-13-01"], ["--wallet", "0x12"]]
)
async def test_bounds_that_cannot_be_read_are_refused(
    config: str, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert await moorage("operator", "ledger", "export", "--config", config, *options) == 2
    assert options[0] in capsys.readouterr().err


async def test_more_entries_than_one_page_are_exported_once_each(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with books.transaction(durable=False) as tx:
        for number in range(5_001):
            await ledger.credit_transfers(tx, [transfer(BOB, 1, log_index=number)], now_ms=START_MS)
    assert await moorage("operator", "ledger", "export", "--config", config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == 1 + 8 + 2 * 5_001


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("wallet:0x=1", "wallet:0x=1"),
        ("", ""),
    ],
)
def test_text_is_never_a_formula_to_a_spreadsheet(text: str, cell: str) -> None:
    assert spreadsheet_text(text) == cell


async def test_held_payments_are_listed_and_released_once(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await moorage("operator", "payments", "held", "--config", config) == 0
    assert capsys.readouterr().out == (
        f"42161 {HELD.tx_hash}:4 usdc $0.700000 from {ALICE}: on a list\n"
    )
    released = ("operator", "payments", "release", HELD.tx_hash[2:].upper(), "--config", config)
    assert await moorage(*released) == 0
    assert await accounts.balance(books, ALICE) == 1_500_000 - 2_055 + 700_000
    assert await moorage(*released) == 1
    assert await accounts.balance(books, ALICE) == 1_500_000 - 2_055 + 700_000
    capsys.readouterr()
    assert await moorage("operator", "payments", "held", "--config", config, "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"payments": []}


@pytest.mark.parametrize("tx_hash", ["", "0x12", PAID.tx_hash + "0"])
async def test_hash_that_is_none_is_refused(config: str, tx_hash: str) -> None:
    assert await moorage("operator", "payments", "release", tx_hash, "--config", config) == 2


async def test_release_of_what_is_not_held_changes_nothing(books: Database, config: str) -> None:
    assert await moorage("operator", "payments", "release", PAID.tx_hash, "--config", config) == 1
    assert await accounts.balance(books, ALICE) == 1_500_000 - 2_055


async def test_revenue_is_printed_for_a_spreadsheet(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        await moorage("operator", "report", "revenue", "--by", "day", "--csv", "--config", config)
        == 0
    )
    assert capsys.readouterr().out == (
        "period,chain,token,received_usd,reversed_usd,refunded_usd,earned_usd,owed_usd\n"
        "2026-04-07,arbitrum,usdc,2.200003,0.000000,0.000000,0.002055,2.197948\n"
    )


async def test_payments_without_a_chain_are_listed_and_said_to_have_no_value_date(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--csv", "--wallet", BOB, "--config", config)
    assert await moorage("operator", "report", "payments", *options) == 0
    printed = capsys.readouterr()
    assert "no value date of 1 payment," in printed.err
    assert printed.out.splitlines()[1:] == [
        (
            ",2026-04-07T12:00:00.000Z,arbitrum,42161,usdc,0.000003,0.000003,0.000000,credited,"
            f"{BOB},{OTHER.recipient},{OTHER.tx_hash},0,7"
        )
    ]


async def test_invoice_needs_a_wallet(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await moorage("operator", "report", "invoice", "--config", config) == 2
    assert "--wallet" in capsys.readouterr().err


async def test_wallets_are_listed_with_what_they_paid_and_were_given(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("operator", "credit", BOB, "0.25", "--reason", "an hour lost", "--config", config)
    assert await moorage(*given) == 0
    capsys.readouterr()
    assert await moorage("operator", "wallets", "--json", "--config", config) == 0
    found = {
        each["wallet"]: (each["balance"], each["paid"], each["given"])
        for each in msgspec.json.decode(capsys.readouterr().out)["wallets"]
    }
    assert found == {
        ALICE: (1_500_000 - 2_055, 1_500_000, 0),
        BOB: (250_003, 3, 250_000),
    }


@pytest.mark.parametrize("usd", ["0", "-1", "1e3", "0.0000001", "", "five", "1000001", "٣"])
async def test_amount_that_is_none_is_not_given(
    books: Database, config: str, capsys: pytest.CaptureFixture[str], usd: str
) -> None:
    assert await moorage("operator", "credit", BOB, usd, "--reason", "why", "--config", config) == 2
    assert "USD" in capsys.readouterr().err
    assert await accounts.balance(books, BOB) == 3


async def test_credits_are_given_for_a_reason_alone(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await moorage("operator", "credit", BOB, "1", "--config", config) == 2
    assert "--reason" in capsys.readouterr().err
    assert await accounts.balance(books, BOB) == 3


async def test_a_mistaken_grant_is_taken_back_once(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("operator", "credit", BOB, "500", "--reason", "a typo", "--json", "--config", config)
    assert await moorage(*given) == 0
    (grant,) = msgspec.json.decode(capsys.readouterr().out)["grants"]
    undo = ("operator", "credit", "--undo", grant["id"], "--config", config)
    assert await moorage(*undo) == 0
    assert await accounts.balance(books, BOB) == 3
    assert await moorage(*undo) == 2
    assert await accounts.balance(books, BOB) == 3


async def test_an_announcement_reaches_each_wallet_with_a_project_once(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await add_project(books, ALICE, "one")
    await add_project(books, ALICE, "two")
    assert (
        await moorage(
            "operator", "announce", "prices change on 1 May", "--config", config, "--json"
        )
        == 0
    )
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "announcement": "prices change on 1 May",
        "told": 1,
    }
    told = await events.of_wallet(books, ALICE, after=0, limit=100)
    texts = [event.data["text"] for event in told if event.kind is EventKind.ANNOUNCEMENT]
    assert texts == ["prices change on 1 May"]
    assert await moorage("operator", "announce", "--end", "--config", config) == 0
    assert "Nothing is announced." in capsys.readouterr().out


async def test_maintenance_is_shown_begun_and_ended(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for what in (["show"], ["on", "back at noon"], ["show"], ["off"]):
        assert await moorage("operator", "maintenance", *what, "--json", "--config", config) == 0
        told.append(msgspec.json.decode(capsys.readouterr().out))
    quiet, down = {"maintenance": False, "text": ""}, {"maintenance": True, "text": "back at noon"}
    assert told == [quiet, down, down, quiet]


async def test_a_wallets_rule_changes_only_what_is_named(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for changes in (["--listed"], ["--projects", "3"], ["--no-listed"]):
        assert await moorage("operator", "allow", BOB, *changes, "--config", config) == 0
        capsys.readouterr()
    assert await moorage("operator", "allow", "--json", "--config", config) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "wallets": [{"wallet": BOB, "is_listed": False, "max_projects": 3}]
    }
    assert await moorage("operator", "allow", BOB, "--config", config) == 2
    assert await moorage("operator", "allow", "--listed", "--config", config) == 2


async def test_eviction_is_told_to_the_owner_and_can_be_cancelled(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = await add_project(books, ALICE, "squat")
    evict = ("operator", "evict", "squat", "--config", config)
    assert await moorage(*evict) == 2
    assert "--reason" in capsys.readouterr().err
    assert await moorage(*evict, "--reason", "this gateway closes", "--json") == 0
    (due,) = msgspec.json.decode(capsys.readouterr().out)["evictions"]
    told = [
        event.data
        for event in await events.of_wallet(books, ALICE, after=0, limit=100)
        if event.kind is EventKind.PROJECT_EVICTED
    ]
    reason = {"project_id": project.id, "reason": "this gateway closes"}
    assert told == [reason | {"deleted_at": due["at"]}]
    assert await moorage(*evict, "--cancel") == 0
    out = capsys.readouterr().out
    assert out == "squat is kept: it is not to be deleted any more.\n"
    assert await moorage(*evict, "--cancel") == 2
    capsys.readouterr()
    assert await moorage("operator", "evict", "--config", config) == 0
    assert capsys.readouterr().out == "No project is to be deleted.\n"


async def test_eviction_that_waits_is_listed_with_why_and_what_to_do(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = await add_project(books, ALICE, "squat")
    evict = ("operator", "evict", "squat", "--reason", "closing", "--days", "0", "--config", config)
    assert await moorage(*evict) == 0
    assert "could not be" not in capsys.readouterr().out
    (ordered,) = await evictions.ordered(books)
    async with books.transaction(durable=True) as tx:
        await evictions.note_failure(
            tx, ordered, FailedTry(START_MS, "the \x1b[31mcluster is away")
        )
    assert await moorage("operator", "evict", "--json", "--config", config) == 0
    (due,) = msgspec.json.decode(capsys.readouterr().out)["evictions"]
    failed = {"at": "2026-04-07T10:00:00.000Z", "why": "the \x1b[31mcluster is away"}
    assert (due["failed"], due["with_export"], due["has_begun"]) == (failed, True, False)
    assert await moorage("operator", "evict", "--config", config) == 0
    out = capsys.readouterr().out
    assert "squat could not be exported at 2026-04-07T10:00:00.000Z: the cluster is away" in out
    for told in ("Nothing of it is deleted", "--no-export", "evict squat --cancel"):
        assert told in out
    assert await moorage(*evict, "--no-export", "--json") == 0
    (anew,) = msgspec.json.decode(capsys.readouterr().out)["evictions"]
    assert (anew["failed"], anew["with_export"]) == (None, False)
    assert project.unique_name == anew["name"]


async def test_deletion_that_fails_after_it_has_begun_is_not_told_to_be_cancelled(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = await add_project(books, ALICE, "squat")
    ordered = Eviction(project.id, "closing", START_MS)
    async with books.transaction(durable=True) as tx:
        await evictions.order(tx, ordered)
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
        await evictions.note_failure(tx, ordered, FailedTry(START_MS, "the disk does not answer"))
    assert await moorage("operator", "evict", "--config", config) == 0
    out = capsys.readouterr().out
    assert "squat could not be deleted" in out
    assert "can't be cancelled" in out
    assert "--cancel" not in out
    assert "--no-export" not in out


@pytest.mark.parametrize(("wallets", "told"), [([ALICE], "1 wallet"), ([ALICE, BOB], "2 wallets")])
async def test_announcement_says_how_many_wallets_are_told(
    books: Database, config: str, capsys: pytest.CaptureFixture[str], wallets: list[str], told: str
) -> None:
    for number, wallet in enumerate(wallets):
        await add_project(books, wallet, f"shop-{number}")
    assert await moorage("operator", "announce", "we move", "--config", config) == 0
    assert capsys.readouterr().err == f"told to {told}\n"


async def test_eviction_that_has_begun_cannot_be_cancelled(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = await add_project(books, ALICE, "squat")
    evict = ("operator", "evict", "squat", "--config", config)
    assert await moorage(*evict, "--reason", "this gateway closes") == 0
    async with books.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    assert await moorage(*evict, "--cancel") == 2
    assert "being deleted already" in capsys.readouterr().err


async def test_no_link_is_made_to_an_operators_port_that_nobody_knows(
    books: Database, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(config).open("a") as file:
        file.write('\n[api]\noperator_listen = "127.0.0.1:0"\n')
    assert await moorage("operator", "link", "--config", config) == 2
    assert "operator_listen" in capsys.readouterr().err
