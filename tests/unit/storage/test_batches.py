"""Several questions that a database is asked at once."""

import asyncio
from collections.abc import Sequence

import pytest

from moorage.errors import DatabaseUnavailable
from moorage.storage.several.shared_tables import MAX_BATCH, Batches


class Server:
    """Answers ten times the number it is asked, when it may."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.fails = False

    async def answer(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        await self.may_answer.wait()
        if self.fails:
            raise DatabaseUnavailable
        return [10 * number for number in numbers]


async def asking(batches: Batches[int, int], *numbers: int) -> list["asyncio.Task[int]"]:
    """Asks for each in a task of its own, and has them come to where they wait."""
    tasks = [asyncio.create_task(batches.ask(number, key=str(number))) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_one_that_finds_nobody_asking_is_asked_at_once() -> None:
    server = Server()
    (task,) = await asking(Batches(server.answer), 1)
    assert server.asked == [[1]]
    server.may_answer.set()
    assert await task == 10


async def test_who_comes_meanwhile_is_asked_together_next_and_has_its_own_answer() -> None:
    server = Server()
    batches = Batches(server.answer)
    first = await asking(batches, 1)
    later = await asking(batches, 2, 3, 4)
    assert server.asked == [[1]]
    server.may_answer.set()
    assert await asyncio.gather(*first, *later) == [10, 20, 30, 40]
    assert server.asked == [[1], [2, 3, 4]]


async def test_two_with_one_key_are_asked_one_after_the_other() -> None:
    server = Server()
    server.may_answer.set()
    batches = Batches(server.answer)
    keys = ["a", "b", "a", "a", "c"]
    answers = await asyncio.gather(*(batches.ask(at, key=key) for at, key in enumerate(keys)))
    assert answers == [0, 10, 20, 30, 40]
    assert server.asked == [[0, 1, 4], [2], [3]]


async def test_so_many_are_asked_at_once_and_no_more() -> None:
    server = Server()
    server.may_answer.set()
    batches = Batches(server.answer)
    many = range(2 * MAX_BATCH + 1)
    asked = [batches.ask(number, key=str(number)) for number in many]
    assert await asyncio.gather(*asked) == [10 * number for number in many]
    assert [len(numbers) for numbers in server.asked] == [MAX_BATCH, MAX_BATCH, 1]


async def test_failure_is_raised_to_all_who_were_asked_together_and_the_next_are_asked() -> None:
    server = Server()
    batches = Batches(server.answer)
    failing = await asking(batches, 1)
    server.fails = True
    server.may_answer.set()
    with pytest.raises(DatabaseUnavailable):
        await failing[0]
    server.fails = False
    assert await batches.ask(2, key="2") == 20


async def test_answers_that_are_too_few_fail_all_and_leave_nobody_waiting() -> None:
    async def nothing(_numbers: Sequence[int]) -> list[int]:
        return []

    (task,) = await asking(Batches(nothing), 1)
    with pytest.raises(ValueError, match="shorter"):
        await asyncio.wait_for(task, 60)


async def test_who_has_gone_is_not_asked_for_and_holds_up_nobody() -> None:
    server = Server()
    batches = Batches(server.answer)
    first, gone, last = [
        *await asking(batches, 1),
        *await asking(batches, 2, 3),
    ]
    gone.cancel()
    first.cancel()
    await asyncio.sleep(0)
    server.may_answer.set()
    assert await last == 30
    assert server.asked == [[1], [3]]
