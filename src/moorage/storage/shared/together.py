"""Asks a server for several at once.

A question alone costs a round trip, and more processor time on both sides than its answer is worth.
While one is under way, those who come meanwhile wait, and are asked for together next. So nobody
waits where few ask, and where many do each costs a fraction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

AT_ONCE = 100


class _Waiting(NamedTuple, Generic[Asked, Answer]):
    asked: Asked
    key: object
    answer: "asyncio.Future[Answer]"


class Together(Generic[Asked, Answer]):
    """Puts questions together. Two with the same key, if they have one, are never asked at once."""

    def __init__(self, ask: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]]) -> None:
        """`ask` returns the answers in the order of what it is asked."""
        self._ask = ask
        self._waiting: list[_Waiting[Asked, Answer]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked, *, key: str | None = None) -> Answer:
        """Returns the answer; raises what asking for it, and for others with it, raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(asked, object() if key is None else key, answer)
        self._waiting.append(waiting)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="ask-together")
        return await answer

    async def _ask_all(self) -> None:
        try:
            while taken := self._take():
                await self._answer(taken)
        finally:
            self._asking = None
            for each in self._waiting:  # the gateway stops
                each.answer.cancel()

    def _take(self) -> list[_Waiting[Asked, Answer]]:
        """Takes the next ones from those that wait, without those whose caller has gone."""
        taken: dict[object, _Waiting[Asked, Answer]] = {}
        left = []
        for each in self._waiting:
            if each.answer.done():
                continue
            if each.key in taken or len(taken) == AT_ONCE:
                left.append(each)
            else:
                taken[each.key] = each
        self._waiting = left
        return list(taken.values())

    async def _answer(self, taken: Sequence[_Waiting[Asked, Answer]]) -> None:
        try:
            answers = await self._ask([each.asked for each in taken])
            answered = list(zip(taken, answers, strict=True))
        except Exception as error:  # noqa: BLE001 (whoever asked has it raised)
            for each in taken:
                if not each.answer.done():
                    each.answer.set_exception(error)
        except BaseException:
            for each in taken:
                each.answer.cancel()
            raise
        else:
            for each, answer in answered:
                if not each.answer.done():
                    each.answer.set_result(answer)
