"""Logs that one gateway writes and others read: the same lines, whoever is asked or writes next."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.clock import SystemClock
from moorage.content.store import DirectoryStore
from moorage.engines.logs import shared
from moorage.engines.logs.shared import PIECE_BYTES, LogCopies, Piece, SharedLogs
from moorage.engines.logs.store import OUT
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

MIB = 1024 * 1024
RUNTIME = LogKind.RUNTIME


class Gateways:
    """Makes what gateways on several machines have of the logs; each has a disk of its own."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.content = directory / "content"
        self.content.mkdir()
        self._directory = directory
        self._stack = stack

    def open(self, name: str, *, writes: bool) -> SharedLogs:
        (self._directory / name / "pods").mkdir(parents=True, exist_ok=True)
        logs = SharedLogs(
            self._directory / name / "pods",
            SystemClock(),
            store=DirectoryStore(self.content),
            copies=self._directory / name / "copies",
            writes=writes,
            beside="followed",
        )
        self._stack.push_async_callback(logs.close)
        return logs

    def stored(self) -> dict[str, bytes]:
        files = (path for path in self.content.rglob("*") if path.is_file())
        return {str(path.relative_to(self.content)): path.read_bytes() for path in files}

    def go_away(self) -> None:
        self.content.rename(self.content.with_name("away"))

    def come_back(self) -> None:
        self.content.with_name("away").rename(self.content)


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(tmp_path, stack)


async def written(logs: SharedLogs, *texts: str, kind: LogKind = RUNTIME) -> None:
    """Has a gateway write lines, and waits until others can read them."""
    await logs.adopt("app")
    logs.of("app").append(kind, OUT, [text.encode() for text in texts], at_ms=1)
    await logs.publish("app")


async def lines(logs: SharedLogs, *, after: int = 0, kind: LogKind = RUNTIME) -> list[str]:
    """All lines of a log from a place on."""
    found: list[str] = []
    log = await logs.readable("app", kind)
    while (page := log.read(kind, after=after, since_ms=0, tail=None, limit=10_000)).lines:
        found += [line.text for line in page.lines]
        after = page.next
    return found


async def test_what_one_writes_others_read_to_the_same_place(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    assert await lines(two) == []
    await written(one, "first", "second")
    assert await lines(two) == await lines(one) == ["first", "second"]
    place = (await two.readable("app", RUNTIME)).read(
        RUNTIME, after=0, since_ms=0, tail=None, limit=1
    )
    await written(one, "third")
    assert await lines(two, after=place.next) == await lines(one, after=place.next)
    assert await lines(two) == ["first", "second", "third"]
    assert await lines(two, kind=LogKind.BUILD) == []


async def test_lines_are_stored_without_being_asked_for(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    await one.adopt("app")
    one.of("app").append(RUNTIME, OUT, [b"hello"], at_ms=1)

    async def is_read() -> bool:
        return await lines(two) == ["hello"]

    await until(is_read)


async def test_next_one_that_writes_goes_on_behind_the_last_line_and_place(
    gateways: Gateways,
) -> None:
    one = gateways.open("one", writes=True)
    await one.adopt("app")
    (one.of("app").directory / "followed").write_text("as far as this")
    await written(one, "of one")
    two = gateways.open("two", writes=True)
    await written(two, "of two")
    assert await lines(two) == ["of one", "of two"]
    assert (two.of("app").directory / "followed").read_text() == "as far as this"
    assert await lines(gateways.open("three", writes=False)) == ["of one", "of two"]


async def test_one_that_wrote_before_another_did_takes_what_that_one_wrote(
    gateways: Gateways,
) -> None:
    await written(gateways.open("one", writes=True), "early")
    await written(gateways.open("two", writes=True), "later")
    again = gateways.open("one", writes=True)
    await written(again, "last")
    assert await lines(again) == ["early", "later", "last"]


async def test_one_that_wrote_last_keeps_what_it_could_not_store(gateways: Gateways) -> None:
    one = gateways.open("one", writes=True)
    await written(one, "stored")
    gateways.go_away()
    await written(one, "not stored")
    gateways.come_back()
    again = gateways.open("one", writes=True)
    assert await lines(again) == ["stored", "not stored"]


async def test_place_that_is_stored_is_never_beyond_the_stored_lines(gateways: Gateways) -> None:
    one = gateways.open("one", writes=True)
    await written(one, "first")
    followed = one.of("app").directory / "followed"
    put = DirectoryStore.put

    async def put_late(self: DirectoryStore, key: str, source: Path) -> None:
        await put(self, key, source)
        if key.endswith("0000"):  # a piece: meanwhile more is written
            followed.write_text("beyond")

    followed.write_text("behind second")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DirectoryStore, "put", put_late)
        await written(one, "second")
    assert gateways.stored()["logs/app/followed"] == b"behind second"


async def test_large_log_is_stored_in_pieces_and_its_oldest_go(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    for number in range(40):
        await written(one, *(f"{number} {each} " + "x" * 1000 for each in range(300)))
    held = await lines(one)
    assert held[-1].startswith("39 299 ")
    assert not held[0].startswith("0 ")
    assert await lines(two) == held
    stored = gateways.stored()
    assert 8 <= len(stored) < 70
    assert sum(map(len, stored.values())) <= 9 * MIB


async def test_new_log_in_place_of_another_replaces_all_its_pieces(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    await one.adopt("origin")
    one.of("origin").append(LogKind.BUILD, OUT, [b"NEW"], at_ms=1)
    await written(one, "old", "older", kind=LogKind.BUILD)
    assert await lines(two, kind=LogKind.BUILD) == ["old", "older"]
    await one.copy("origin", "app", LogKind.BUILD)
    await one.publish("app")
    assert await lines(two, kind=LogKind.BUILD) == ["NEW"]


async def test_removed_logs_are_nowhere(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    await written(one, "gone")
    assert await lines(two) == ["gone"]
    await one.remove("app")
    assert gateways.stored() == {}
    assert await lines(two) == []
    assert await lines(one) == []


async def test_store_that_is_away_is_said_and_loses_no_line(gateways: Gateways) -> None:
    one, two = gateways.open("one", writes=True), gateways.open("two", writes=False)
    await written(one, "before")
    gateways.go_away()
    await written(one, "meanwhile")
    assert await lines(one) == ["before", "meanwhile"]
    with pytest.raises(ContentUnavailable):
        await two.readable("app", RUNTIME)
    with pytest.raises(ContentUnavailable):
        await gateways.open("three", writes=True).adopt("app")
    gateways.come_back()
    await one.publish("app")
    assert await lines(two) == ["before", "meanwhile"]


async def test_copies_that_nobody_asks_for_make_room(gateways: Gateways, tmp_path: Path) -> None:
    one, clock = gateways.open("one", writes=True), MovableClock()
    for name in ("first", "second", "third"):
        await one.adopt(name)
        one.of(name).append(RUNTIME, OUT, [b"x" * 1000], at_ms=1)
        await one.publish(name)
    directory = tmp_path / "copied"
    copies = LogCopies(DirectoryStore(gateways.content), directory, clock=clock, max_bytes=2500)
    for name in ("first", "second", "first", "third"):
        clock.advance(60_000)
        await copies.current(name, RUNTIME)
    kept = {path.parent.parent.name for path in directory.rglob("runtime") if path.is_dir()}
    assert kept == {"first", "third"}
    log = await copies.current("second", RUNTIME)
    assert len(log.read(RUNTIME, after=0, since_ms=0, tail=None, limit=9).lines) == 1


class HalfAStore(DirectoryStore):
    """A content store that fails at the second piece of a log."""

    async def get(self, key: str, target: Path) -> None:
        if key == shared.piece_key("half", RUNTIME, 6):
            raise ContentUnavailable
        await super().get(key, target)


async def test_copy_that_failed_halfway_makes_room_as_well(
    gateways: Gateways, tmp_path: Path
) -> None:
    clock, directory = MovableClock(), tmp_path / "copied"
    for name, sizes in (("half", (6, 6)), ("first", (6,)), ("second", (6,))):
        for number, size in enumerate(sizes):
            path = gateways.content / shared.piece_key(name, RUNTIME, 6 * number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (size - 1) + b"\n")
    copies = LogCopies(HalfAStore(gateways.content), directory, clock=clock, max_bytes=12)
    clock.advance(60_000)
    with pytest.raises(ContentUnavailable):
        await copies.current("half", RUNTIME)
    for name in ("first", "second"):
        clock.advance(60_000)
        await copies.current(name, RUNTIME)
    kept = {path.parent.parent.name for path in directory.rglob("runtime") if path.is_dir()}
    assert kept == {"first", "second"}


@given(
    st.lists(st.lists(st.integers(1, 3 * PIECE_BYTES), max_size=4), max_size=6),
    st.integers(0, 3),
)
def test_pieces_always_make_up_the_log_and_large_ones_are_put_once(
    growths: list[list[int]], dropped: int
) -> None:
    """Segments grow one after the other; a store that does what `changes` says has the log."""
    stored: dict[int, int] = {}
    puts: dict[int, list[int]] = {}
    segments: list[Piece] = []
    position = 0
    for growth in growths:
        segments.append(Piece(position, 0))
        for size in growth:
            segments[-1] = Piece(position, segments[-1].size + size)
            there = [it for it in segments if it.size]
            wanted = shared.changes(there, [Piece(*it) for it in sorted(stored.items())])
            for put in wanted.puts:
                stored[put.position] = put.end - put.position
                puts.setdefault(put.position, []).append(stored[put.position])
            for gone in wanted.removed:
                del stored[gone]
            whole = shared.unbroken(Piece(*it) for it in stored.items())
            assert len(whole) == len(stored)
            assert not there or (whole[0].position, whole[-1].end) == (
                there[0].position,
                there[-1].end,
            )
        position = segments[-1].end
        segments = segments[-1 - dropped :]
    for sizes in puts.values():
        assert all(size < PIECE_BYTES for size in sizes[:-1])


def test_pieces_before_a_gap_are_not_read() -> None:
    found = [Piece(0, 10), Piece(20, 10), Piece(30, 5)]
    assert shared.unbroken(found) == [Piece(20, 10), Piece(30, 5)]
    assert shared.unbroken([]) == []
