"""Histories of what happens to a gateway's books, beside a plain model that says what must be."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Collection
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from moorage.errors import MoorageError
from support.books.yielding import YieldingDatabase
from support.gateway.clock import MovableClock


class BookModel(RuleBasedStateMachine):
    """A history over a database of its own, which lies in `directory`."""

    template: Path  # a database with the schema

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.db = YieldingDatabase(Path(shutil.copy(self.template, self.directory / "moorage.db")))
        self.clock = MovableClock()

    def let(self, act: Awaitable[object]) -> None:
        """Do it; what it refuses, or puts off, is for the next time."""
        self.clock.advance(1)

        async def done() -> None:
            try:
                await act
            except MoorageError:
                return

        self.runner.run(done())

    def teardown(self) -> None:
        self.db.close()
        self.runner.close()
        shutil.rmtree(self.directory)


AS_FOUND = (Phase.explicit, Phase.reuse, Phase.generate)
"""The phases without those that look for a shorter history, which may take minutes."""


def run_histories(
    model: type[BookModel],
    template: Path,
    *,
    histories: int,
    steps: int,
    phases: Collection[Phase] = tuple(Phase),
) -> None:
    """Tries so many histories of at most so many steps."""
    model.template = template
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
