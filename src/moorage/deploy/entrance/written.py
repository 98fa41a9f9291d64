"""What running versions have written onto their disks: asked of the engine, seldom and briefly."""

import asyncio
import logging
from dataclasses import dataclass

from moorage.clock import Clock
from moorage.engines.engine import EngineView, WrittenFiles

_KEPT_SECONDS = 10.0
_WAIT_SECONDS = 0.5  # a request is not held up for longer
_LOOKS_AT_ONCE = 2
_MAX_KEPT = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Look:
    begun_at: float  # monotonic seconds
    answer: asyncio.Task[WrittenFiles | None]


class Written:
    """Looks at a deployment's files once in ten seconds at most, however often it is asked."""

    def __init__(
        self, engine: EngineView, clock: Clock, *, wait_seconds: float = _WAIT_SECONDS
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._looks: dict[str, _Look] = {}  # by deployment, oldest first
        self._turns = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def by(self, deployment_id: str | None) -> WrittenFiles | None:
        """Returns what a deployment's app has written; None if that can't be told soon."""
        if deployment_id is None:
            return None
        look = self._looks.get(deployment_id)
        if look is None or (look.answer.done() and self._is_old(look)):
            look = self._begin(deployment_id)
        await asyncio.wait({look.answer}, timeout=self._wait_seconds)
        return look.answer.result() if look.answer.done() else None

    def _is_old(self, look: _Look) -> bool:
        return self._clock.monotonic_seconds() - look.begun_at >= _KEPT_SECONDS

    def _begin(self, deployment_id: str) -> _Look:
        self._looks.pop(deployment_id, None)
        while len(self._looks) >= _MAX_KEPT:
            self._looks.pop(next(iter(self._looks)))
        answer = asyncio.create_task(self._ask(deployment_id))
        look = _Look(self._clock.monotonic_seconds(), answer)
        self._looks[deployment_id] = look
        return look

    async def _ask(self, deployment_id: str) -> WrittenFiles | None:
        async with self._turns:
            try:
                return await self._engine.written(deployment_id)
            except OSError as error:
                logger.warning("what %s has written can't be told: %s", deployment_id, error)
                return None
