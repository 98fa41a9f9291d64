"""Strangers' questions to the nodes: so many at once."""

import pytest

from moorage.chains.balances import Questions
from moorage.errors import RateLimited


async def test_questions_beyond_those_at_once_are_put_off_and_each_answer_frees_one() -> None:
    questions = Questions(at_once=2)
    async with questions.one():
        async with questions.one():
            with pytest.raises(RateLimited) as refused:
                async with questions.one():
                    pass
            assert refused.value.retry_after_seconds == 1
        async with questions.one():
            pass


async def test_question_that_fails_frees_its_place() -> None:
    questions = Questions(at_once=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="no answer"):
            async with questions.one():
                raise ValueError("no answer")
