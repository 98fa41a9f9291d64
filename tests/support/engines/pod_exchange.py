"""The port of pods, opened for as long as one exchange takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.engines.kubernetes.building.exchange import Exchange, Tickets


@asynccontextmanager
async def one_exchange(
    host: str, port: int, *, source: Path, result: Path, max_bytes: int
) -> AsyncIterator[Tickets]:
    """As `Exchange.offered`."""
    exchange = Exchange(host=host, port=port, url="")
    await exchange.open()
    try:
        async with exchange.offered(source=source, result=result, max_bytes=max_bytes) as tickets:
            yield tickets
    finally:
        await exchange.close()
