"""A program: an app that does to its visitors whatever their path says, on a port of its own.

Prints the port, and serves until its input ends.
"""

import asyncio
import sys
from contextlib import suppress

HEAD = b"HTTP/1.1 200 OK\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </" + b"x" * 1000 + b">\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one connection."""
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split(maxsplit=2)[1]
            await ANSWERS.get(path, hello)(reader, writer)
    writer.transport.abort()


async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 5\r\n\r\nhello")


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass
    raise ConnectionResetError


async def unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hints(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(HINT * 50)
        await writer.drain()


async def forever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


ANSWERS = {b"/never": never, b"/unread": unread, b"/hints": hints, b"/forever": forever}


async def main() -> None:
    """Serves until the input ends."""
    server = await asyncio.start_server(serve, "127.0.0.1", limit=65_536, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
