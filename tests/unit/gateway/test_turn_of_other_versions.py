"""A gateway whose database is of another version leaves the apps to others, and says so."""

from pathlib import Path

import pytest

from moorage.errors import DatabaseUnavailable
from moorage.gateway.several.turns import FileLock
from moorage.gateway.several.upgraded import AGAIN_SECONDS, TurnUnlessUpgraded
from support.gateway.clock import MovableClock


class Schema:
    """The schema of a database that may be upgraded, or away; it counts how often it is read."""

    def __init__(self) -> None:
        self.is_newest = True
        self.is_away = False
        self.reads = 0

    async def read(self) -> bool:
        self.reads += 1
        if self.is_away:
            raise DatabaseUnavailable("it does not answer")
        return self.is_newest


@pytest.fixture
def schema() -> Schema:
    return Schema()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def another(tmp_path: Path) -> FileLock:
    return FileLock(tmp_path / "lock")


@pytest.fixture
def turn(tmp_path: Path, schema: Schema, clock: MovableClock) -> TurnUnlessUpgraded:
    lock = FileLock(tmp_path / "lock")
    return TurnUnlessUpgraded(lock, is_newest=schema.read, clock=clock)


async def test_turn_is_taken_while_the_schema_is_this_versions(
    turn: TurnUnlessUpgraded, another: FileLock
) -> None:
    assert await turn.take()
    assert not await another.take()
    await turn.check()


async def test_turn_is_left_to_others_while_the_schema_is_another_versions(
    turn: TurnUnlessUpgraded, another: FileLock, schema: Schema
) -> None:
    schema.is_newest = False
    assert not await turn.take()
    assert await another.take()


async def test_gateway_is_unwell_until_another_has_the_turn_that_it_left(
    turn: TurnUnlessUpgraded, another: FileLock, schema: Schema, clock: MovableClock
) -> None:
    schema.is_newest = False
    await turn.take()
    with pytest.raises(DatabaseUnavailable, match="another version"):
        await turn.check()
    assert await another.take()
    clock.advance(round(AGAIN_SECONDS * 1000))
    assert not await turn.take()
    await turn.check()


async def test_turn_that_was_left_is_looked_at_again_only_after_a_pause(
    turn: TurnUnlessUpgraded, schema: Schema, clock: MovableClock
) -> None:
    schema.is_newest = False
    for _ in range(3):
        assert not await turn.take()
    assert schema.reads == 1
    schema.is_newest = True
    clock.advance(round(AGAIN_SECONDS * 1000))
    assert await turn.take()
    await turn.check()


async def test_turn_is_left_while_the_database_does_not_say_of_which_version_it_is(
    turn: TurnUnlessUpgraded, another: FileLock, schema: Schema
) -> None:
    schema.is_away = True
    assert not await turn.take()
    assert await another.take()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        await turn.check()
