"""A real S3 server, of moto's, on loopback; and one that fails as it is told."""

import asyncio
import http.client
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from moorage.content.s3 import S3Store

KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


class S3Server:
    """Buckets, each made for one test."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.address = f"{host}:{port}"
        self.url = f"http://{self.address}"

    def bucket(self) -> str:
        """A new bucket's name."""
        name = f"bucket-{uuid.uuid4().hex}"
        connection = http.client.HTTPConnection(self.address)
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == 200
        connection.close()
        return name

    def store(self, *, prefix: str = "") -> S3Store:
        """A store in a bucket of its own."""
        return S3Store(self.bucket(), prefix=prefix, endpoint=self.url, credentials=KEYS)

    def stop(self) -> None:
        self._server.stop()


def credentials_text(url: str) -> str:
    """A file as AWS's tools have it, with the keys of a server and its URL."""
    keys = [f"aws_{name} = {key}" for name, key in KEYS.items()]
    return "\n".join(["[default]", *keys, f"endpoint_url = {url}"])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[S3Store]:
    """A store whose server answers each request with these bytes, and closes the connection."""
    async with server_answering(answer) as url:
        yield S3Store("bucket", endpoint=url, credentials=KEYS)


@asynccontextmanager
async def server_answering(answer: bytes) -> AsyncIterator[str]:
    """The URL of such a server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ),
            0,
        )
        await reader.readexactly(length)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://127.0.0.1:{port}"
