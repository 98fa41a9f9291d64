"""What running versions have written onto their disks: asked of the engine, briefly.

For what is only told, seldom; for a deploy that may lose the files, as of that moment.
"""

import asyncio
import logging
from dataclasses import dataclass

from moorage.clock import Clock
from moorage.deploy.entrance.loss import Successor, volume_of
from moorage.engines.engine import EngineView, WrittenFiles
from moorage.records.deployment import DeploymentView
from moorage.records.project import Project

_KEPT_SECONDS = 10.0
_KEPT_FOR_COST = 200  # times as long as it took: so looks at one app take half a percent of a core
_WAIT_SECONDS = 0.5  # a request is not held up for longer
_FRESH_SECONDS = 5.0  # nor one that may lose the files
_LOOKS_AT_ONCE = 2
_MAX_KEPT = 1_000

logger = logging.getLogger(__name__)


@dataclass
class _Look:
    answer: asyncio.Task[WrittenFiles | None]
    kept_until: float  # monotonic seconds


class Written:
    """Looks at a deployment's files seldom, however often it is asked; costly looks are rarer."""

    def __init__(
        self,
        engine: EngineView,
        clock: Clock,
        *,
        wait_seconds: float = _WAIT_SECONDS,
        releases_kept: int = 0,
        volume_bytes: int = 0,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._wait_seconds = wait_seconds
        self.releases_kept = releases_kept
        """How many replaced versions keep their files."""
        self.volume_bytes = volume_bytes
        """The size of a new volume."""
        self._looks: dict[str, _Look] = {}  # by deployment, oldest first
        self._turns = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def by(self, deployment_id: str | None, *, freshly: bool = False) -> WrittenFiles | None:
        """Returns what a deployment's app has written; None if that can't be told soon.

        `freshly`, it is as of now: for a request that may lose the files.
        """
        if deployment_id is None:
            return None
        look = self._looks.get(deployment_id)
        if look is None or freshly or (look.answer.done() and self._is_old(look)):
            look = self._begin(deployment_id)
        if not look.answer.done():
            wait_seconds = (
                max(self._wait_seconds, _FRESH_SECONDS) if freshly else self._wait_seconds
            )
            await asyncio.wait({look.answer}, timeout=wait_seconds)
        return look.answer.result() if look.answer.done() else None

    def successor(self, project: Project | DeploymentView) -> Successor:
        """Returns what becomes of a project's files at its next deploy, as far as is known."""
        offered = self._engine.capabilities.volumes
        volume = volume_of(project, wanted=False, offered=offered)
        return Successor(volume=volume, releases_kept=self.releases_kept)

    def _is_old(self, look: _Look) -> bool:
        return self._clock.monotonic_seconds() >= look.kept_until

    def _begin(self, deployment_id: str) -> _Look:
        self._looks.pop(deployment_id, None)
        while len(self._looks) >= _MAX_KEPT:
            self._looks.pop(next(iter(self._looks)))
        kept_until = self._clock.monotonic_seconds() + _KEPT_SECONDS
        look = _Look(asyncio.create_task(self._ask(deployment_id)), kept_until)
        self._looks[deployment_id] = look
        look.answer.add_done_callback(lambda _: self._took_until_now(look))
        return look

    def _took_until_now(self, look: _Look) -> None:
        """Keeps a look that took long for longer."""
        now = self._clock.monotonic_seconds()
        took = now - (look.kept_until - _KEPT_SECONDS)
        look.kept_until = max(look.kept_until, now + took * _KEPT_FOR_COST)

    async def _ask(self, deployment_id: str) -> WrittenFiles | None:
        async with self._turns:
            try:
                return await self._engine.written(deployment_id)
            except OSError as error:
                logger.warning("what %s has written can't be told: %s", deployment_id, error)
                return None
