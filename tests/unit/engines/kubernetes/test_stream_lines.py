"""Lines of what the API server streams."""

from collections.abc import AsyncIterator

from moorage.engines.kubernetes.cluster.client import batches


async def given(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def lines(*chunks: bytes, max_bytes: int = 8) -> list[bytes]:
    found = [batch async for batch in batches(given(*chunks), max_bytes=max_bytes)]
    return [line for batch in found for line in batch]


async def test_lines_are_whole_however_they_come() -> None:
    assert await lines(b"on", b"e\ntwo\n\nth", b"ree") == [b"one", b"two", b"", b"three"]


async def test_line_is_read_up_to_a_bound_in_however_many_pieces_it_comes() -> None:
    for pieces in ((b"123456789abc\nnext\n",), (b"12345678", b"9ab", b"c\nnext\n")):
        assert await lines(*pieces) == [b"12345678", b"next"]


async def test_line_that_never_ends_is_not_kept() -> None:
    assert await lines(*[b"endless "] * 1000, max_bytes=20) == [b"endless endless endl"]
