"""Sessions and links: how long they last, what ends them, and how many there may be."""

import asyncio

import pytest
from sqlalchemy import select

from moorage.auth.tokens import DAY_MS, MAX_LINKS, ONCE_MS, LinkOrder, Links
from moorage.errors import LinkNotFound, NonceReused, TooManyLinks
from moorage.pages.sessions.session import LIFETIME_MS, MAX_SESSIONS, Opened, Sessions
from moorage.records.access import Link, Role, StoredSession
from moorage.storage import page_access as stored_links
from moorage.storage import page_access as stored_sessions
from moorage.storage.access_schema import links as link_rows
from moorage.storage.access_schema import sessions as session_rows
from moorage.storage.database import Database, Statement
from support.books.records_fixture import ALICE, BOB, fund
from support.gateway.clock import START_MS, MovableClock

WALLET, OPERATOR = Role.WALLET, Role.OPERATOR
ONCE = LinkOrder(who=ALICE, may_change=True, once=True, lifetime_ms=ONCE_MS)
WEEK = LinkOrder(who=ALICE, project_id="p1", label="for the designer", lifetime_ms=7 * DAY_MS)


@pytest.fixture
def sessions(db: Database, clock: MovableClock) -> Sessions:
    return Sessions(db=db, clock=clock)


@pytest.fixture
def links(db: Database, clock: MovableClock) -> Links:
    return Links(db=db, clock=clock)


async def sign_in(sessions: Sessions, nonce: str = "n1", who: str = ALICE) -> Opened:
    return await sessions.sign_in(who, role=WALLET, nonce=nonce, issued_ms=START_MS)


async def open_link(sessions: Sessions, secret: str, role: Role = WALLET) -> Opened:
    opened = await sessions.open_link(secret, role=role)
    assert opened is not None
    return opened


async def is_open(sessions: Sessions, opened: Opened, role: Role = WALLET) -> bool:
    return await sessions.find(opened.secret, role=role) is not None


async def test_session_lasts_twelve_hours(sessions: Sessions, clock: MovableClock) -> None:
    opened = await sign_in(sessions)
    clock.advance(LIFETIME_MS - 1)
    assert await is_open(sessions, opened)
    clock.advance(1)
    assert not await is_open(sessions, opened)


async def test_neither_secret_of_session_nor_of_link_is_stored(
    sessions: Sessions, links: Links, db: Database
) -> None:
    opened, made = await sign_in(sessions), await links.make(WEEK)
    stored = [
        *await db.all(Statement(select(*session_rows.c))),
        *await db.all(Statement(select(*link_rows.c))),
    ]
    assert len(stored) == 2
    assert opened.secret not in str(stored)
    assert made.secret not in str(stored)


async def test_signed_text_opens_one_session_even_after_that_was_ended(sessions: Sessions) -> None:
    opened = await sign_in(sessions)
    await sessions.end(opened.secret)
    with pytest.raises(NonceReused):
        await sign_in(sessions)


async def test_of_forty_sign_ins_with_one_text_one_passes(sessions: Sessions) -> None:
    found = await asyncio.gather(*(sign_in(sessions) for _ in range(40)), return_exceptions=True)
    assert len([each for each in found if isinstance(each, Opened)]) == 1
    assert len([each for each in found if isinstance(each, NonceReused)]) == 39


async def test_sign_out_ends_one_session_and_sign_out_everywhere_all_of_the_wallet(
    sessions: Sessions,
) -> None:
    first, second, bobs = [
        await sign_in(sessions, *each) for each in (("n1",), ("n2",), ("n3", BOB))
    ]
    await sessions.end(first.secret)
    assert [await is_open(sessions, each) for each in (first, second, bobs)] == [False, True, True]
    await sessions.end_all(second.session.digest)
    assert [await is_open(sessions, each) for each in (second, bobs)] == [False, True]


async def test_session_is_for_the_pages_of_its_role_alone(sessions: Sessions) -> None:
    opened = await sign_in(sessions)
    assert not await is_open(sessions, opened, OPERATOR)


@pytest.mark.parametrize("secret", ["", "x", "../../etc", "é" * 43, "A" * 43])
async def test_what_is_no_secret_finds_nothing(sessions: Sessions, secret: str) -> None:
    await sign_in(sessions)
    assert await sessions.find(secret, role=WALLET) is None
    assert await sessions.open_link(secret, role=WALLET) is None


async def test_with_one_session_more_the_oldest_of_the_wallet_ends(
    sessions: Sessions, clock: MovableClock
) -> None:
    bobs = await sign_in(sessions, "bob", BOB)
    opened = []
    for number in range(MAX_SESSIONS + 1):
        clock.advance(1)
        opened.append(await sign_in(sessions, f"n{number}"))
    assert not await is_open(sessions, opened[0])
    assert await is_open(sessions, opened[1])
    assert await is_open(sessions, bobs)


async def test_guests_of_a_link_push_out_no_session_of_the_wallet(
    sessions: Sessions, links: Links, clock: MovableClock
) -> None:
    own, made = await sign_in(sessions), await links.make(WEEK)
    guests = []
    for _ in range(MAX_SESSIONS + 1):
        clock.advance(1)
        guests.append(await open_link(sessions, made.secret))
    assert await is_open(sessions, own)
    assert not await is_open(sessions, guests[0])
    assert await is_open(sessions, guests[1])


async def test_link_opens_once_and_a_look_at_it_uses_nothing_up(
    sessions: Sessions, links: Links
) -> None:
    made = await links.make(ONCE)
    for _ in range(3):
        assert await sessions.look_at_link(made.secret, role=WALLET) == made.link
    found = await asyncio.gather(*(sessions.open_link(made.secret, role=WALLET) for _ in range(20)))
    (opened,) = [each for each in found if each is not None]
    assert (opened.session.who, opened.session.may_change) == (ALICE, True)
    assert opened.session.signed_ms is None
    assert await sessions.look_at_link(made.secret, role=WALLET) is None


async def test_link_opens_within_ten_minutes_and_its_session_lasts_longer(
    sessions: Sessions, links: Links, clock: MovableClock
) -> None:
    made, late = await links.make(ONCE), await links.make(ONCE)
    clock.advance(ONCE_MS - 1)
    opened = await open_link(sessions, made.secret)
    clock.advance(1)
    assert await sessions.open_link(late.secret, role=WALLET) is None
    assert await is_open(sessions, opened)


async def test_wallets_link_opens_no_pages_of_the_operator(
    sessions: Sessions, links: Links
) -> None:
    made = await links.make(ONCE)
    assert await sessions.open_link(made.secret, role=OPERATOR) is None


async def test_read_only_link_opens_again_until_it_expires(
    sessions: Sessions, links: Links, clock: MovableClock
) -> None:
    made = await links.make(WEEK)
    for _ in range(2):
        opened = await open_link(sessions, made.secret)
        assert (opened.session.may_change, opened.session.project_id) == (False, "p1")
    clock.advance(7 * DAY_MS - 1)
    last = await open_link(sessions, made.secret)
    clock.advance(1)
    assert not await is_open(sessions, last)  # though it is not twelve hours old
    assert await sessions.open_link(made.secret, role=WALLET) is None


async def test_revoked_link_takes_with_it_what_it_has_opened(
    sessions: Sessions, links: Links
) -> None:
    own, made, other = await sign_in(sessions), await links.make(WEEK), await links.make(WEEK)
    guest, others_guest = [await open_link(sessions, each.secret) for each in (made, other)]
    await links.revoke(made.link.id, who=ALICE)
    assert await sessions.open_link(made.secret, role=WALLET) is None
    assert not await sessions.lasts(guest.session.digest, role=WALLET)
    assert [await is_open(sessions, each) for each in (guest, own, others_guest)] == [
        *(False, True, True)
    ]


async def test_link_is_revoked_by_its_own_wallet_alone(links: Links) -> None:
    made = await links.make(WEEK)
    with pytest.raises(LinkNotFound):
        await links.revoke(made.link.id, who=BOB)
    await links.revoke(made.link.id, who=ALICE)
    with pytest.raises(LinkNotFound):
        await links.revoke(made.link.id, who=ALICE)


async def test_links_are_listed_with_when_they_were_opened_last(
    sessions: Sessions, links: Links, clock: MovableClock
) -> None:
    first = await links.make(WEEK)
    clock.advance(1)
    second = await links.make(WEEK)
    await links.make(ONCE)  # is gone soon, and not listed
    await open_link(sessions, second.secret)
    found = await links.listed(ALICE)
    assert [(each.id, each.used_ms) for each in found] == [
        (first.link.id, None),
        (second.link.id, clock.now_ms()),
    ]
    assert await links.listed(BOB) == []


async def test_wallet_has_so_many_links_and_no_more(links: Links) -> None:
    for _ in range(MAX_LINKS):
        made = await links.make(WEEK)
    with pytest.raises(TooManyLinks, match="100"):
        await links.make(WEEK)
    await links.revoke(made.link.id, who=ALICE)
    await links.make(WEEK)


async def test_text_counts_once_and_no_older_one_after_it(sessions: Sessions) -> None:
    digest = (await sign_in(sessions)).session.digest
    asked = [START_MS, START_MS + 1, START_MS + 1, START_MS]
    found = [await sessions.note_signature(digest, issued_ms=each) for each in asked]
    assert found == [False, True, False, False]


async def test_beyond_so_many_rows_the_oldest_go_of_wallets_without_an_account(
    db: Database, clock: MovableClock
) -> None:
    """Keys are free, so whoever makes many pushes out strangers alone."""
    await fund(db, ALICE, 1_000_000)
    whose = [ALICE, *(f"0x{number:040x}" for number in range(4))]
    async with db.transaction(durable=False) as tx:
        for number, who in enumerate(whose):
            session = StoredSession(
                digest=f"d{number}",
                role=WALLET,
                who=who,
                may_change=True,
                created_at_ms=START_MS + number,
                expires_ms=START_MS + LIFETIME_MS,
            )
            await stored_sessions.add_session(tx, session, max_kept=20, max_rows=3)
            link = Link(
                id=f"l{number}",
                role=WALLET,
                who=who,
                may_change=False,
                once=False,
                created_at_ms=START_MS + number,
                expires_ms=START_MS + LIFETIME_MS,
            )
            await stored_links.add_link(tx, link, digest=f"d{number}", max_once=20, max_rows=3)
    kept = {whose[0], *whose[-2:]}
    assert {who for (who,) in await db.all(Statement(select(session_rows.c.who)))} == kept
    assert {who for (who,) in await db.all(Statement(select(link_rows.c.who)))} == kept


async def test_what_has_expired_is_purged(
    sessions: Sessions, links: Links, clock: MovableClock, db: Database
) -> None:
    await sign_in(sessions)
    await links.make(ONCE)
    await links.make(WEEK)
    clock.advance(LIFETIME_MS)
    await sessions.purge()
    assert await db.all(Statement(select(session_rows.c.digest))) == []
    assert len(await db.all(Statement(select(link_rows.c.id)))) == 1


async def test_all_access_of_operators_ends_and_that_of_wallets_does_not(
    sessions: Sessions, links: Links, db: Database, clock: MovableClock
) -> None:
    of_operator = LinkOrder(who="ops", role=OPERATOR, may_change=True, lifetime_ms=ONCE_MS)
    first, second = await links.make(of_operator), await links.make(of_operator)
    opened = await open_link(sessions, first.secret, OPERATOR)
    of_wallet, signed_in = await links.make(WEEK), await sign_in(sessions)

    async with db.transaction(durable=True) as tx:
        ended = await stored_sessions.end_sessions_of_role(tx, OPERATOR, now_ms=clock.now_ms())
        taken_back = await stored_links.remove_links_of_role(tx, OPERATOR)

    assert (ended, taken_back) == (1, 2)
    assert not await is_open(sessions, opened, OPERATOR)
    assert await sessions.open_link(second.secret, role=OPERATOR) is None
    assert await is_open(sessions, signed_in)
    assert await is_open(sessions, await open_link(sessions, of_wallet.secret))
