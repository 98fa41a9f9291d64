"""Plans made by the pool, and what else was found in the files, with a cache.

The same files, settings and tools have the same plan.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict
from weakref import WeakValueDictionary

import msgspec

from moorage.parsers.job import MakePlan, PlanMade
from moorage.parsers.pool import ParserFault, ParserPool
from moorage.planning.plan import Settings
from moorage.planning.toolbox import Toolbox
from moorage.uploads.room import Uploader
from moorage.uploads.tree import Upload

_MAX_KEPT = 1_000
_MAX_KEPT_BYTES = 16 * 1024 * 1024


class Plans:
    """Makes plans, and caches those used last, up to a number and a size."""

    def __init__(
        self, pool: ParserPool, *, max_kept: int = _MAX_KEPT, max_kept_bytes: int = _MAX_KEPT_BYTES
    ) -> None:
        self._pool = pool
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()  # digest → PlanMade, as MessagePack
        self._kept_bytes = 0
        self._turns: WeakValueDictionary[tuple[bytes, str], asyncio.Lock] = WeakValueDictionary()
        self._toolbox: Toolbox | None = None
        self._toolbox_digest = b""

    async def plan(
        self,
        upload: Upload,
        tree_digest: str,
        settings: Settings,
        toolbox: Toolbox,
        uploader: Uploader,
    ) -> PlanMade:
        """Returns the plan and the findings for an upload whose files have this digest.

        An uploader's requests for one plan wait for the first of them. Raises as `make_plan` does,
        PlanTooCostly and PlannersBusy.
        """
        key = self._key(tree_digest, settings, toolbox)
        async with self._turns.setdefault((key, uploader.key), asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return _PLANS.decode(kept)
            return await self._make(key, upload, settings, toolbox, uploader)

    async def _make(
        self, key: bytes, upload: Upload, settings: Settings, toolbox: Toolbox, uploader: Uploader
    ) -> PlanMade:
        job, descriptors = _job(upload, settings, toolbox)
        made = (await self._pool.do(job, descriptors, uploader)).outcome
        if not isinstance(made, PlanMade):
            raise ParserFault(repr(made))
        self._keep(key, msgspec.msgpack.encode(made))
        return made

    def _key(self, tree_digest: str, settings: Settings, toolbox: Toolbox) -> bytes:
        if toolbox is not self._toolbox:
            self._toolbox = toolbox
            self._toolbox_digest = _digest(toolbox)
        return hashlib.sha256(
            tree_digest.encode() + _digest(settings) + self._toolbox_digest
        ).digest()

    def _keep(self, key: bytes, plan: bytes) -> None:
        self._kept_bytes += len(plan) - len(self._kept.pop(key, b""))
        self._kept[key] = plan
        while len(self._kept) > self._max_kept or self._kept_bytes > self._max_kept_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)


_PLANS = msgspec.msgpack.Decoder(PlanMade)


def _digest(value: Settings | Toolbox) -> bytes:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).digest()


def _job(upload: Upload, settings: Settings, toolbox: Toolbox) -> tuple[MakePlan, list[int]]:
    """Returns the job and its descriptors: contents in memory are sent, those on disk opened."""
    contents = [upload.content(path) for path in upload.paths]
    offsets: list[int] = []
    held: list[bytes] = []
    descriptors: list[int] = []
    at = 0
    for content in contents:
        if content.file is not None:
            offsets.append(content.offset)
            if not descriptors:
                descriptors.append(content.file.opened(os.O_RDONLY))
        else:
            offsets.append(-1 - at)
            held.append(content.data)
            at += content.size
    job = MakePlan(
        settings=settings,
        toolbox=toolbox,
        paths=list(upload.paths),
        sizes=[content.size for content in contents],
        offsets=offsets,
        data=b"".join(held),
    )
    return job, descriptors
