"""Certificates are ordered once, in time, and within what authorities allow."""

import asyncio
import itertools
from collections import Counter

import pytest
from room import Room

from moorage.certificates import orders
from moorage.certificates.authority import Fault, OrderFailed
from moorage.certificates.orders import MAX_ORDERS
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from support.gateway.authority_in_memory import AuthorityInMemory
from support.gateway.clock import HOUR_MS, MINUTE_MS, MovableClock

HOST, OTHER = "shop.example", "other.example"
DAY_MS = 24 * HOUR_MS
AWAY = OrderFailed(Fault.AUTHORITY, "authority.example cannot be asked.")
REFUSED = OrderFailed(Fault.NAME, "authority.example says: no such name.")


async def end_ms(room: Room, host: str) -> int:
    found = await certificates.not_after_ms(room.db, host)
    assert found is not None
    return found


async def test_wanted_name_gets_one_certificate(room: Room) -> None:
    await room.want(HOST)
    assert not await room.certificates.has(HOST)
    await room.begin()
    await room.begin()
    await room.want(HOST)
    await room.begin()
    assert await room.certificates.has(HOST)
    assert room.authority.orders == [HOST]
    assert await end_ms(room, HOST) == pytest.approx(room.clock.now_ms() + 90 * DAY_MS, abs=1000)


async def test_who_waits_has_it_as_soon_as_it_is_there(room: Room) -> None:
    await room.want(HOST)
    assert await room.certificates.wait_for(HOST, 30)
    assert room.proxy.changes == [HOST]  # it is served by then


async def test_two_gateways_order_once(db: Database, clock: MovableClock) -> None:
    authority = AuthorityInMemory(clock)
    one, two = Room(db, clock, authority), Room(db, clock, authority)
    authority.answers.clear()
    for room in (one, two):
        await room.want(HOST, OTHER)
    await asyncio.gather(one.orders.begin(), two.orders.begin())
    await asyncio.gather(one.orders.begin(), two.orders.begin())
    authority.answers.set()
    await asyncio.gather(one.orders.settled(), two.orders.settled())
    await asyncio.gather(one.begin(), two.begin())
    assert Counter(authority.orders) == {HOST: 1, OTHER: 1}
    assert await two.certificates.has(HOST)


async def test_any_gateway_answers_the_authority_while_it_looks(
    db: Database, clock: MovableClock
) -> None:
    authority = AuthorityInMemory(clock)
    one, two = Room(db, clock, authority), Room(db, clock, authority)
    authority.answers.clear()
    await one.want(HOST)
    await one.orders.begin()
    await authority.begun.wait()
    async with asyncio.timeout(60):
        while await two.proofs.answer(f"token-{HOST}") is None:
            await asyncio.sleep(0)
    assert await two.proofs.answer(f"token-{HOST}") == "value"
    assert await two.proofs.answer("another") is None
    authority.answers.set()
    await one.orders.settled()
    assert await two.proofs.answer(f"token-{HOST}") is None


async def test_certificate_is_renewed_after_two_thirds_of_its_life_spread_by_name(
    room: Room,
) -> None:
    hosts = [f"host-{number}.example" for number in range(10)]
    await room.want(*hosts)
    for _ in range(3):
        await room.begin()
    began_ms, renewed = room.clock.now_ms(), dict[str, float]()
    for _ in range(90):
        room.clock.advance(DAY_MS)
        await room.want(*hosts)  # as each day
        before = len(room.authority.orders)
        for _ in range(3):
            await room.begin()
        passed = (room.clock.now_ms() - began_ms) / DAY_MS
        renewed |= {name: passed for name in room.authority.orders[before:] if name not in renewed}
    assert set(renewed) == set(hosts)
    assert min(renewed.values()) >= 90 * (2 / 3 - 0.05)
    assert max(renewed.values()) <= 90 * (2 / 3 + 0.05) + 1
    assert len(set(renewed.values())) > 3


async def test_name_that_nobody_wants_any_more_is_not_renewed(room: Room) -> None:
    await room.want(HOST)
    await room.begin()
    for _ in range(80):
        room.clock.advance(DAY_MS)
        await room.begin()
    assert room.authority.orders == [HOST]
    await room.want(HOST)  # again
    await room.begin()
    assert room.authority.orders == [HOST, HOST]


async def test_order_that_hangs_is_given_up_and_made_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "ORDER_SECONDS", 0.01)
    room.authority.answers.clear()
    await room.want(HOST)
    await room.begin()
    assert "not answered in time" in await room.certificates.problem(HOST)
    assert await room.proofs.answer(f"token-{HOST}") is None
    room.authority.answers.set()
    await room.pass_time(10 * MINUTE_MS)
    assert await room.certificates.has(HOST)


async def test_order_of_a_gateway_that_was_killed_is_taken_over(
    db: Database, clock: MovableClock
) -> None:
    authority = AuthorityInMemory(clock)
    dead, alive = Room(db, clock, authority), Room(db, clock, authority)
    authority.answers.clear()
    await dead.want(HOST)
    await dead.orders.begin()
    await authority.begun.wait()
    await alive.begin()
    assert authority.orders == [HOST]
    clock.advance(10 * MINUTE_MS)
    authority.answers.set()
    await alive.begin()
    assert authority.orders == [HOST, HOST]
    issued = await certificates.issued(db, HOST)
    await dead.orders.settled()  # it comes back to life, too late
    assert await certificates.issued(db, HOST) == issued


async def test_gateway_that_stops_leaves_its_orders_to_others_at_once(
    db: Database, clock: MovableClock
) -> None:
    authority = AuthorityInMemory(clock)
    stopping, other = Room(db, clock, authority), Room(db, clock, authority)
    authority.answers.clear()
    run = asyncio.create_task(stopping.orders.run())
    await stopping.want(HOST)  # it is begun at once, without a tick
    await asyncio.wait_for(authority.begun.wait(), 60)
    run.cancel()
    await asyncio.wait([run])
    authority.answers.set()
    await other.begin()
    assert await other.certificates.has(HOST)


async def test_authority_that_was_away_for_a_day_is_asked_rarely_and_then_gives_all_within_limits(
    room: Room,
) -> None:
    hosts = [f"host-{number}.example" for number in range(40)]
    room.authority.away = AWAY
    await room.want(*hosts)
    await room.pass_time(DAY_MS, every_ms=10_000 * 6)
    assert len(room.authority.orders) <= 24 * 60 / 5 + 5
    assert len(set(room.authority.orders)) == len(hosts)  # no name holds up the others
    assert AWAY.reason in await room.certificates.problem(hosts[0])

    room.authority.away, room.authority.orders = None, []
    began_ms, came = room.clock.now_ms(), list[int]()
    while len(came) < len(hosts):
        await room.pass_time(MINUTE_MS)
        new = len(room.authority.orders) - len(came)
        came += [room.clock.now_ms() - began_ms] * new
    for first in range(len(came) - MAX_ORDERS):
        assert came[first + MAX_ORDERS] - came[first] >= 10 * MINUTE_MS
    assert came[-1] <= 40 * MINUTE_MS
    assert [await room.certificates.has(host) for host in hosts] == [True] * len(hosts)


async def test_authority_that_is_known_to_be_back_is_asked_at_once(room: Room) -> None:
    room.authority.away = AWAY
    await room.want(HOST)
    await room.pass_time(HOUR_MS)
    room.authority.away = None
    room.orders.resume()
    await room.pass_time(2 * MINUTE_MS)
    assert await room.certificates.has(HOST)


async def test_second_authority_gives_what_the_first_can_not(
    db: Database, clock: MovableClock
) -> None:
    first = AuthorityInMemory(clock)
    second = AuthorityInMemory(clock, directory="https://second.example/directory")
    room = Room(db, clock, first, second)
    first.failures = [AWAY, OrderFailed(Fault.LIMIT, "too many", retry_after_seconds=3600)]
    await room.want(HOST)
    await room.begin()
    await room.want(OTHER)
    await room.pass_time(MINUTE_MS)
    assert (first.orders, second.orders) == ([HOST, OTHER], [HOST, OTHER])
    issued = await certificates.issued(db, OTHER)
    assert issued is not None
    assert issued.authority == second.directory

    refused = "refused.example"
    first.refused[refused] = REFUSED
    await room.want(refused)
    await room.pass_time(2 * MINUTE_MS)
    assert (first.orders[-1], second.orders) == (refused, [HOST, OTHER])  # it is the name's fault


async def test_name_that_is_refused_is_tried_ever_more_rarely(room: Room) -> None:
    room.authority.refused[HOST] = REFUSED
    await room.want(HOST)
    await room.begin()
    tried = [0]
    for minute in range(1, 4 * 24 * 60):
        room.clock.advance(MINUTE_MS)
        if minute % (24 * 60) == 0:
            await room.want(HOST)
        if minute % 5 == 0:
            await room.begin()
            tried += [minute] * (len(room.authority.orders) - len(tried))
    assert tried[:5] == [0, 10, 30, 70, 150]
    assert len([minute for minute in tried if minute < 60]) <= 5
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert max(pauses) <= 24 * 60 + 5
    assert pauses[-1] >= 24 * 60
    problem = await room.certificates.problem(HOST)
    assert problem.startswith(f"{REFUSED.reason} Next try: 2026-04-1")


async def test_renewal_that_is_refused_is_tried_until_the_end(room: Room) -> None:
    room.authority.days = 6
    await room.want(HOST)
    await room.begin()
    room.authority.refused[HOST] = REFUSED
    for hour in range(1, 6 * 24):
        room.clock.advance(HOUR_MS)
        if hour % 24 == 0:
            await room.want(HOST)
        await room.begin()
    assert len(room.authority.orders) > 10
    room.authority.refused.clear()
    await room.pass_time(HOUR_MS)
    assert await end_ms(room, HOST) > room.clock.now_ms() + 5 * DAY_MS


async def test_authority_that_says_when_to_come_again_is_obeyed(room: Room) -> None:
    limit = OrderFailed(Fault.LIMIT, "too many certificates", retry_after_seconds=3 * 3600)
    room.authority.failures = [limit]
    await room.want(HOST)
    await room.begin()
    await room.want(OTHER)
    await room.begin()
    assert room.authority.orders == [HOST]  # nobody else's either, for a minute
    await room.pass_time(3 * HOUR_MS - 2 * MINUTE_MS)
    assert room.authority.orders == [HOST, OTHER]
    await room.pass_time(5 * MINUTE_MS)
    assert room.authority.orders == [HOST, OTHER, HOST]


@pytest.mark.parametrize("days", [400, -400])
async def test_clock_that_jumps_causes_no_storm_of_orders(
    db: Database, clock: MovableClock, days: int
) -> None:
    room = Room(db, clock)
    hosts = [f"host-{number}.example" for number in range(12)]
    await room.want(*hosts)
    for _ in range(4):
        await room.begin()
    assert len(room.authority.orders) == len(hosts)
    clock.step(days * DAY_MS)
    await room.want(*hosts)
    for _ in range(6 * 60):
        clock.advance(MINUTE_MS)
        await room.begin()
    await room.installation.follow()
    assert len(room.authority.orders) == len(hosts)
    assert [await room.certificates.has(host) for host in hosts] == [True] * len(hosts)
    assert set(room.proxy.pems) == set(hosts)
    clock.step(-days * DAY_MS)
    await room.pass_time(HOUR_MS)
    assert len(room.authority.orders) == len(hosts)


async def test_gateway_that_starts_with_a_wrong_clock_orders_few(
    db: Database, clock: MovableClock
) -> None:
    right = MovableClock()
    before = Room(db, clock)
    hosts = [f"host-{number}.example" for number in range(12)]
    await before.want(*hosts)
    for _ in range(4):
        await before.begin()
    clock.step(400 * DAY_MS)
    authority = AuthorityInMemory(right)
    room = Room(db, clock, authority)
    await room.want(*hosts)
    for _ in range(24 * 60):
        clock.advance(MINUTE_MS)
        right.advance(MINUTE_MS)
        await room.begin()
    assert len(authority.orders) <= 24 + 5
    assert "set the clock right" in await room.certificates.problem(authority.orders[0])


async def test_name_put_off_by_a_clock_that_was_ahead_is_ordered_once_it_is_right(
    room: Room, db: Database, clock: MovableClock
) -> None:
    clock.step(400 * DAY_MS)
    ahead = Room(db, clock)
    ahead.authority.refused[HOST] = REFUSED
    await ahead.want(HOST)
    await ahead.begin()
    clock.step(-400 * DAY_MS)
    await room.want(HOST)
    await room.begin()
    assert await room.certificates.has(HOST)


async def test_certificate_for_another_name_or_key_is_not_served(room: Room) -> None:
    class Mistaken(AuthorityInMemory):
        async def certify(self, name: str, key: str, proofs: object) -> str:
            from support.gateway.authority_in_memory import certificate

            return certificate(OTHER, key, now_ms=self.clock.now_ms())

    mistaken = Room(room.db, room.clock, Mistaken(room.clock))
    await mistaken.want(HOST)
    await mistaken.begin()
    assert not await mistaken.certificates.has(HOST)
    assert f"not for {HOST}" in await mistaken.certificates.problem(HOST)
