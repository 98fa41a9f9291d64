"""Strangers' questions to the nodes: so many at once."""

import pytest

from moorage.chains.balances import ConcurrencyLimit
from moorage.errors import RateLimited


async def test_questions_beyond_those_at_once_are_put_off_and_each_answer_frees_one() -> None:
    limit = ConcurrencyLimit(limit=2)
    async with limit.slot():
        async with limit.slot():
            with pytest.raises(RateLimited) as refused:
                async with limit.slot():
                    pass
            assert refused.value.retry_after_seconds == 1
        async with limit.slot():
            pass


async def test_question_that_fails_frees_its_place() -> None:
    limit = ConcurrencyLimit(limit=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="no answer"):
            async with limit.slot():
                raise ValueError("no answer")
