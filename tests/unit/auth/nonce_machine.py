"""A machine on which a gateway keeps its nonces: its processes crash, and its power fails."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from moorage.auth.nonces import NonceFile

START_MS = 1_775_556_000_000
MARK = "lock"
"""The file that is forced to disk; all else a power cut may take."""


class NonceMachine:
    """Runs one store after the other in a directory; `work` is what waits for the disk."""

    def __init__(self, directory: Path, chance: random.Random | None = None) -> None:
        self.directory = directory
        self.chance = chance or random.Random(0)
        self.clock_ms = START_MS
        self.syncs = 0
        self.sync_error: OSError | None = None
        self.is_slow = False
        """The disk does nothing but by `disk_works`."""
        self._boot = 0
        self._on_disk = b""
        self._work: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self.store: NonceFile

    def now_ms(self) -> int:
        return self.clock_ms

    def monotonic_seconds(self) -> float:
        raise AssertionError("timestamps are wall time")

    def start(self, **options: int) -> NonceFile:
        self.store = NonceFile(
            self.directory,
            clock=self,
            boot=str(self._boot),
            sync=self._sync,
            run=self._run,
            **options,
        )
        return self.store

    def disk_works(self) -> bool:
        """Do one thing that the store waits for; False when there is none."""
        if not self._work:
            return False
        call, done = self._work.pop(0)
        try:
            call()
        except OSError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return True

    async def stop(self) -> None:
        """The process ends as it should, unless it has already."""
        self.is_slow = False
        while self.disk_works():
            pass
        await self.store.close()

    async def crash(self) -> None:
        """The process ends: what its files hold just now is what they will hold."""
        files = {path: path.read_bytes() for path in self.directory.iterdir()}
        for _, done in self._work:
            done.set_exception(OSError("the process ended"))
        self._work.clear()
        await self.store.close()
        for path, content in files.items():
            path.write_bytes(content)  # over what is there, so that it stays the same file

    async def cut_power(self) -> None:
        """Of what was not forced to disk something may be there all the same, or half of it."""
        await self.crash()
        for path in self.directory.iterdir():
            content = path.read_bytes()
            if path.name == MARK:
                path.write_bytes(self.chance.choice([content, self._on_disk]))
            else:
                length = self.chance.randrange(len(content) + 1)
                path.write_bytes(self.chance.choice([content, b"", content[:length]]))
        self._boot += 1

    def _sync(self, _descriptor: int) -> None:
        self.syncs += 1
        if self.sync_error is not None:
            raise self.sync_error
        self._on_disk = (self.directory / MARK).read_bytes()

    async def _run(self, call: Callable[[], None]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.append((call, done))
        if not self.is_slow:
            self.disk_works()
        await done
