"""The logs of an engine that several gateways open, of which one writes them and all read them."""

import shutil
from pathlib import Path

from moorage.clock import Clock
from moorage.content.store import ContentStore
from moorage.engines.logs.copies import LogCopies
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.published import PublishedLogs
from moorage.records.deployment import LogKind
from moorage.threads import in_thread


class SharedLogs:
    """The logs in a directory of each deployment, and in a content store if there is one."""

    def __init__(
        self,
        deployments: Path,
        clock: Clock,
        *,
        store: ContentStore | None,
        copies: Path,
        writes: bool,
        beside: str,
    ) -> None:
        """`deployments` has the directories; `copies` is for what another gateway writes.

        `beside` is a file that lies beside a runtime log. Made in a running loop.
        """
        self.deployments = deployments
        self._clock = clock
        self._published = self._copies = None
        if store is not None and writes:
            self._published = PublishedLogs(store, self.of, beside=beside)
        elif store is not None:
            self._copies = LogCopies(store, copies, clock=clock)

    def of(self, deployment_id: str) -> Logs:
        """Returns the logs of a deployment in its directory."""
        changed = None if self._published is None else self._published.changed
        directory = self.deployments / deployment_id
        return Logs(directory=directory, collecting=None, clock=self._clock, changed=changed)

    async def readable(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns logs of which this kind is here as far as it is written, or stored by another.

        Raises ContentUnavailable.
        """
        if self._copies is not None:
            return await self._copies.current(deployment_id, kind)
        if self._published is not None:
            await self._published.adopt(deployment_id)
        return self.of(deployment_id)

    async def adopt(self, deployment_id: str) -> None:
        """Makes logs ready to be written, with all that is stored. Raises ContentUnavailable."""
        if self._published is not None:
            await self._published.adopt(deployment_id)
        await in_thread(self.of(deployment_id).create)

    async def publish(self, deployment_id: str) -> None:
        """Waits until other gateways can read what was written, or for some seconds."""
        if self._published is not None:
            await self._published.flush(deployment_id)

    async def copy(self, origin_id: str, deployment_id: str, kind: LogKind) -> None:
        """Replaces an adopted log by another deployment's. Raises ContentUnavailable, OSError."""
        await self.adopt(origin_id)
        await in_thread(self.of(deployment_id).copy_from, self.of(origin_id), kind)
        if self._published is not None:
            self._published.rewritten(deployment_id, kind)

    async def remove(self, deployment_id: str) -> None:
        """Removes all logs of a deployment. Raises ContentUnavailable."""
        if self._published is not None:
            await self._published.remove(deployment_id)
        directory = self.deployments / deployment_id
        await in_thread(shutil.rmtree, directory, ignore_errors=True)

    async def close(self) -> None:
        """Publishes what is left to publish, if that takes no more than some seconds."""
        if self._published is not None:
            await self._published.close()
