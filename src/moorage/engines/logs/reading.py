"""The methods of an engine that read and write the logs of its deployments."""

from abc import ABC, abstractmethod
from contextlib import suppress

from moorage.engines.engine import Cursor, LogPage
from moorage.engines.logs.logs import Logs
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind
from moorage.threads import in_thread


class LogReading(ABC):
    """The part of an `Engine` that is the same for all that keep logs in directories."""

    @abstractmethod
    def _logs(self, deployment_id: str) -> Logs:
        """Returns the logs of a deployment, which need not exist. Raises ValueError for no id."""

    async def _readable(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns the logs of a deployment, of which this kind is here as far as it is written."""
        del kind
        return self._logs(deployment_id)

    async def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """As `Engine.log_tail`."""
        logs = await self._readable(deployment_id, kind)
        return await in_thread(logs.tail, kind, max_bytes)

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
        """As `Engine.read_log`."""
        logs = await self._readable(deployment_id, kind)
        return await in_thread(
            logs.read, kind, after=after, since_ms=since_ms, tail=tail, limit=limit
        )

    async def note(self, deployment_id: str, text: str) -> None:
        """As `Engine.note`; ignores errors in writing."""
        with suppress(ContentUnavailable):
            logs = await self._readable(deployment_id, LogKind.RUNTIME)
            await in_thread(logs.note, LogKind.RUNTIME, text)
