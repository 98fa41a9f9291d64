"""Who comes next where more jobs wait than may run: fair by what each used, strangers with less."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from moorage.errors import (
    InvalidField,
    InvalidRequest,
    PlanNotFound,
    RuntimeUnsupported,
    UploadInvalid,
)
from moorage.parsers.job import CurrentFile, Refusal, error_of, refusal_of, shared_memory
from moorage.parsers.pool import Turns, TurnsFull, Waiting
from moorage.uploads.room import Uploader

ERRORS = [
    InvalidField("settings.port", "must be 1–65535"),
    UploadInvalid("is there twice", path="a/b.js"),
    UploadInvalid("the archive is empty"),
    RuntimeUnsupported("settings.runtime", "is none of ours"),
    PlanNotFound("No app was found.", looked_for=("go.mod", "main.go")),
    InvalidRequest("It is wrong."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_refusal_is_the_same_error_again(error: InvalidRequest) -> None:
    sent = msgspec.msgpack.encode(refusal_of(error))
    again = error_of(msgspec.msgpack.decode(sent, type=Refusal))
    assert type(again) is type(error)
    assert again.message == error.message
    assert vars(again) == vars(error)


def test_refusal_is_bounded_whatever_it_repeats() -> None:
    long = "\ud800" * 1_000_000
    for error in (
        UploadInvalid(long, path=long),
        InvalidField(long, long),
        PlanNotFound(long, looked_for=(long,) * 1_000),
    ):
        assert len(msgspec.msgpack.encode(refusal_of(error))) < 100_000


def test_place_tells_what_was_said_last_and_bears_anything() -> None:
    memory = shared_memory()
    ours, theirs = CurrentFile(memory), CurrentFile(memory)
    assert ours.read() is None
    theirs.write("src/Cargo.toml")
    assert ours.read() == "src/Cargo.toml"
    theirs.write("é" * 3_000)
    said = ours.read()
    assert said is not None
    assert 500 <= len(said) <= 1024
    theirs.write("")
    assert ours.read() is None


ALICE, BOB = Uploader("alice", has_paid=True), Uploader("bob", has_paid=True)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Jobs:
    """Jobs with names, for tests that compare who runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self._loop = loop
        self.turns = turns
        self.names: dict[Waiting, str] = {}

    def make(self, name: str, uploader: Uploader, *, is_heavy: bool = False) -> Waiting:
        job = Waiting(uploader, is_heavy, self._loop.create_future())
        self.names[job] = name
        return job

    def wait(self, name: str, uploader: Uploader, *, is_heavy: bool = False) -> Waiting:
        job = self.make(name, uploader, is_heavy=is_heavy)
        self.turns.wait(job)
        return job

    def begin(self) -> list[str]:
        """The names of all that may begin now, in their order."""
        found = []
        while (job := self.turns.next()) is not None:
            found.append(self.names[job])
        return found


@pytest.fixture
def jobs(loop: asyncio.AbstractEventLoop) -> Jobs:
    return Jobs(loop, Turns(3))


def stranger(number: int) -> Uploader:
    return Uploader(f"192.0.2.{number}", has_paid=False)


def test_strangers_leave_a_place_for_wallets_that_paid(jobs: Jobs) -> None:
    for number in range(9):
        jobs.wait(f"s{number}", stranger(number))
    assert jobs.begin() == ["s0", "s1"]
    jobs.wait("paid", ALICE)
    assert jobs.begin() == ["paid"]


def test_a_stranger_has_one_place_at_a_time(jobs: Jobs) -> None:
    first = jobs.wait("first", stranger(1))
    jobs.wait("second", stranger(1))
    jobs.wait("other", stranger(2))
    assert jobs.begin() == ["first", "other"]
    jobs.turns.end(first, 0.0)
    assert jobs.begin() == ["second"]


def test_heavy_jobs_leave_places_for_small_ones(jobs: Jobs) -> None:
    for number in range(3):
        jobs.wait(f"s{number}", stranger(number), is_heavy=True)
    assert jobs.begin() == ["s0"]
    jobs.wait("newcomer", stranger(9))
    assert jobs.begin() == ["newcomer"]
    jobs.wait("paid", ALICE, is_heavy=True)
    assert jobs.begin() == ["paid"]


def test_who_used_least_comes_first(jobs: Jobs) -> None:
    hog = jobs.wait("hog", stranger(1))
    other = jobs.wait("other", stranger(2))
    assert jobs.begin() == ["hog", "other"]
    for number in range(3):
        jobs.wait(f"hog{number}", stranger(1))
    jobs.wait("newcomer", stranger(3))
    jobs.turns.end(hog, 2.0)
    assert jobs.begin() == ["newcomer"]
    jobs.turns.end(other, 0.1)
    assert jobs.begin() == ["hog0"]


def test_what_strangers_use_counts_for_more(jobs: Jobs) -> None:
    running = [jobs.wait("a", stranger(1)), jobs.wait("b", stranger(2)), jobs.wait("c", ALICE)]
    assert jobs.begin() == ["a", "b", "c"]
    jobs.wait("stranger", stranger(1))
    jobs.wait("paid", ALICE)
    for job in running:
        jobs.turns.end(job, 1.0)
    assert jobs.begin() == ["paid", "stranger"]


def test_nobody_saves_turns_up(jobs: Jobs) -> None:
    """Who comes after a long time starts where the others are: level with them, not ahead."""
    for _ in range(5):
        job = jobs.wait("busy", ALICE)
        jobs.begin()
        jobs.turns.end(job, 10.0)
    late = jobs.wait("late", BOB)
    jobs.begin()
    jobs.turns.end(late, 15.0)  # more than ALICE is ahead by
    jobs.wait("late again", BOB)
    jobs.wait("busy again", ALICE)
    assert jobs.begin() == ["busy again", "late again"]


def test_waiting_is_bounded_for_each_and_in_all(loop: asyncio.AbstractEventLoop) -> None:
    jobs = Jobs(loop, Turns(3, max_waiting=4, max_of_stranger=3, max_of_other=4))
    held = [jobs.wait(f"s{n}", stranger(1)) for n in range(3)]
    with pytest.raises(TurnsFull):
        jobs.wait("one too many", stranger(1))
    jobs.wait("other", stranger(2))
    assert jobs.turns.wait(jobs.make("newcomer", stranger(3))) is held[2]
    assert jobs.turns.wait(jobs.make("next", stranger(4))) is held[1]
    with pytest.raises(TurnsFull):  # each has one now
        jobs.wait("last", stranger(5))


def test_who_leaves_is_not_called(jobs: Jobs) -> None:
    waiting = [jobs.wait(name, BOB) for name in ("first", "second", "third")]
    assert jobs.turns.leave(waiting[0])
    assert jobs.begin() == ["second", "third"]
    assert not jobs.turns.leave(waiting[1])  # it has begun


def test_begins_at_once_only_where_nobody_waits(jobs: Jobs) -> None:
    assert jobs.turns.begin_now(jobs.make("first", stranger(1)))
    assert not jobs.turns.begin_now(jobs.make("second", stranger(1)))
    jobs.wait("waits", stranger(1))
    assert not jobs.turns.begin_now(jobs.make("paid", ALICE))


def test_fewer_than_three_places_would_not_do() -> None:
    with pytest.raises(ValueError, match="three"):
        Turns(2)
