"""The logs of a project as one: whole from every place, bounded, and through redeploys."""

import random
from itertools import accumulate
from typing import Any

import pytest

from moorage.api import logs
from moorage.api.logs import MergedLog, Part, Place
from moorage.engines.engine import Cursor, LogLine, LogPage
from moorage.records.deployment import Deployment, DeploymentStatus, LogKind, LogStream
from moorage.records.project import Project
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, add_deployment, add_project
from support.gateway.fakes import FakeRuntime

Told = list[tuple[str, str]]
"""The lines of a part: whose, and what."""


class Written(FakeRuntime):
    """Logs whose lines have times; a cursor is the number of characters before it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, list[tuple[int, str]]] = {}
        self.asked: list[str] = []

    async def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: Cursor = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        self.asked.append(deployment_id)
        lines = self.lines.get(deployment_id, [])
        ends = accumulate(len(text) for _, text in lines)
        found = [
            LogLine(at_ms, LogStream.OUT, text, end)
            for (at_ms, text), end in zip(lines, ends, strict=True)
        ]
        whole = found[-1].cursor if found else 0
        found = [line for line in found if line.at_ms >= since_ms and line.cursor > after]
        found = found[-(tail or len(found)) :] if found else []
        page = found[:limit]
        return LogPage(lines=tuple(page), next=page[-1].cursor if page else max(after, whole))


@pytest.fixture
async def project(db: Database) -> Project:
    return await add_project(db, ALICE, "hello")


@pytest.fixture
def engine() -> Written:
    return Written()


def log_of(db: Database, engine: Written, project: Project) -> MergedLog:
    return MergedLog(db, engine, project.id, LogKind.RUNTIME)


def told(*parts: Part) -> Told:
    return [(of, line.text) for part in parts for of, line in part.lines]


def by_deployment(lines: Told) -> dict[str, list[str]]:
    return {each: [text for of, text in lines if of == each] for each, _ in lines}


async def deployed(db: Database, project: Project, *statuses: DeploymentStatus) -> list[Deployment]:
    return [await add_deployment(db, project, status) for status in statuses]


async def everything(log: MergedLog, place: Place, limit: int) -> list[Part]:
    parts = [await log.behind(place, limit)]
    while parts[-1].lines:
        parts.append(await log.behind(parts[-1].end, limit))
    return parts


@pytest.mark.parametrize("seed", range(8))
async def test_each_line_comes_once_from_whatever_place_one_goes_on(
    db: Database, engine: Written, project: Project, seed: int
) -> None:
    """Clocks may go back: a line's time says nothing of its place in its own log."""
    chance = random.Random(seed)
    made = await deployed(db, project, *[DeploymentStatus.SUPERSEDED] * 3)
    engine.lines = {
        each.id: [
            (chance.randrange(50), f"{number}." + "x" * chance.randrange(9))
            for number in range(chance.randrange(12))
        ]
        for each in made
    }
    expected = {of: [text for _, text in lines] for of, lines in engine.lines.items() if lines}
    total = sum(len(lines) for lines in expected.values())

    for limit in (1, 3, 100):
        parts = await everything(log_of(db, engine, project), Place(), limit)
        assert by_deployment(told(*parts)) == expected
        assert all(len(part.lines) <= limit for part in parts)
    for tail in (1, 2, 5, 100):
        part = await log_of(db, engine, project).last(tail, Place())
        assert len(part.lines) == min(tail, total)
        assert told(*await everything(log_of(db, engine, project), part.end, 100)) == []
        for number, (place, _) in enumerate(part.items(), 1):
            read = Place.read(place.text)
            assert read == place
            rest = await everything(log_of(db, engine, project), read, 100)
            assert by_deployment(told(*rest)) == by_deployment(told(part)[number:])


async def test_lines_of_several_are_told_by_their_times(
    db: Database, engine: Written, project: Project
) -> None:
    first, second = await deployed(db, project, *[DeploymentStatus.READY] * 2)
    engine.lines = {first.id: [(1, "a"), (3, "c"), (5, "e")], second.id: [(2, "b"), (4, "d")]}
    log = log_of(db, engine, project)
    assert [text for _, text in told(await log.behind(Place(), 100))] == list("abcde")
    assert [text for _, text in told(await log.last(2, Place()))] == list("de")
    assert [text for _, text in told(await log.behind(Place(), 100, 3))] == list("cde")
    assert [text for _, text in told(await log.last(4, Place(), 3))] == list("cde")


async def test_next_deployment_is_told_from_its_beginning(
    db: Database, engine: Written, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_LISTED_SECONDS", 0.0)
    log = log_of(db, engine, project)
    nothing = await log.last(10, Place(), since_ms=7)
    (first,) = await deployed(db, project, DeploymentStatus.SUPERSEDED)
    engine.lines[first.id] = [(1, "before"), (8, "one")]
    part = await log.behind(Place(7, nothing.end.cursors), 10)
    assert told(part) == [(first.id, "one")]
    (second,) = await deployed(db, project, DeploymentStatus.READY)
    engine.lines[second.id] = [(9, "two")]
    part = await log.behind(part.end, 10)
    assert told(part) == [(second.id, "two")]


async def test_what_is_over_and_read_is_not_read_again(
    db: Database, engine: Written, project: Project
) -> None:
    failed, ready = await deployed(db, project, DeploymentStatus.FAILED, DeploymentStatus.READY)
    log = log_of(db, engine, project)
    for _ in range(5):
        await log.behind(Place(), 10)
    assert engine.asked.count(failed.id) == 2
    assert engine.asked.count(ready.id) == 5


async def test_part_is_bounded_however_many_have_logs(
    db: Database, engine: Written, project: Project
) -> None:
    made = await deployed(db, project, *[DeploymentStatus.SUPERSEDED] * 6)
    engine.lines = {each.id: [(1, "x" * 600_000)] for each in made}
    log = log_of(db, engine, project)
    assert len((await log.last(100, Place())).lines) == 2
    parts = await everything(log, Place(), 100)
    assert [len(part.lines) for part in parts] == [2, 2, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "-1", "0-", "0-0b6e0d5e9d4c", "0-0b6e0d5e9d4c.", "0-0B6E0D5E9D4C.1", "٣"),
        *("1" * 16, "0-0b6e0d5e9d4c." + "1" * 19, "0-0b6e0d5e9d4c.1\n"),
        "0" + "-0b6e0d5e9d4c.1" * 21,
    ],
)
def test_what_is_no_place_is_none(text: str) -> None:
    assert Place.read(text) is None


def test_place_is_read_as_it_is_told() -> None:
    place: Any = Place.read("7-0b6e0d5e9d4c.92-1b6e0d5e9d4c.0")
    assert place == Place(7, {"0b6e0d5e9d4c": 92, "1b6e0d5e9d4c": 0})
    assert place.text == "7-0b6e0d5e9d4c.92-1b6e0d5e9d4c.0"
    assert Place().text == "0"
