"""A socket that leads to a PostgreSQL server's, and can lose an answer, or all for a while."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
COMMIT = b"COMMIT\0"
FLUSH = b"H\0\0\0\4"
"""With which a client asks for answers so far, and says that its statement goes on."""


class PostgresRelay:
    """Passes everything on, unless it is told to lose the answer to the next COMMIT."""

    def __init__(self, server: Path) -> None:
        self._server = server / SOCKET
        self.is_cut = False
        """Nothing passes, and nothing is closed."""

        self.is_cut_in_next_statement = False
        """It is cut between what prepares a statement and what asks for its rows."""

        self.loses_next_commit = False
        self.instead = b""
        """What is said in place of the answer that is lost."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until either side ends it."""
        try:
            with suppress(OSError):  # the server is gone: so is the connection
                await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._mended()
        from_server, to_server = await asyncio.open_unix_connection(str(self._server))
        answering = asyncio.create_task(self._copy(from_server, writer))
        try:
            while data := await reader.read(65_536):
                await self._mended()
                loses = self.loses_next_commit and COMMIT in data
                if loses:
                    self.loses_next_commit = False
                    answering.cancel()
                    await asyncio.wait([answering])
                to_server.write(data)
                if self.is_cut_in_next_statement and FLUSH in data:
                    self.is_cut_in_next_statement, self.is_cut = False, True
                if loses:
                    await from_server.read(65_536)  # it has committed
                    writer.write(self.instead)
                    return
        finally:
            answering.cancel()
            to_server.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._mended()
                writer.write(data)
        writer.close()

    async def _mended(self) -> None:
        while self.is_cut:
            await asyncio.sleep(0.02)


@contextmanager
def relaying(server: Path, directory: Path) -> Iterator[PostgresRelay]:
    """A relay in `directory` to the server whose socket is in another.

    It runs in a thread, so that nothing waits for it while a test reads the books.
    """
    relay = PostgresRelay(server)
    started: Future[Callable[[], None]] = Future()

    async def run() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        listening = await asyncio.start_unix_server(relay.serve, str(directory / SOCKET))

        def end() -> None:
            loop.call_soon_threadsafe(ended.set)

        started.set_result(end)
        await ended.wait()
        listening.close()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, run())
        end = started.result()
        try:
            yield relay
        finally:
            relay.is_cut = False
            end()
            running.result()
