"""A 45 MB upload costs a bounded amount of memory, whatever it holds."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MIB = 1024 * 1024

# Runs in a process of its own, so that the growth of its peak is the uploads' alone. Bodies are
# made on the fly, a chunk at a time; a small upload before the measurement loads all code.
_MEASURE = textwrap.dedent(
    """
    import asyncio, base64, io, json, os, sys, zipfile
    from pathlib import Path
    from moorage.uploads.room import UploadLimits
    from moorage.uploads.reader import read_upload
    from support.clients.parsing_in_place import InPlace

    kind, uploads, spool = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    BODY = 45_000_000
    BLOCK = base64.b64encode(os.urandom(48 * 1024))

    async def one_file(length):
        yield b'{"upload":{"type":"files","files":[{"path":"a","content":"'
        for _ in range(length // len(BLOCK)):
            yield BLOCK
        yield b'"}]}}'

    async def many_files(length):
        yield b'{"upload":{"type":"files","files":['
        for number in range(length // 9_000):
            entry = b'{"path":"src/f%d","content":"%b"}' % (number, BLOCK[:8_960])
            yield b',' * bool(number) + entry
        yield b']}}'

    async def archive(length):
        yield b'{"upload":{"type":"zip","data":"'
        with ARCHIVE.open("rb") as file:
            while block := file.read(48 * 1024):
                yield base64.b64encode(block)
        yield b'"}}'

    def make_archive(length):
        with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            for number in range(length * 3 // 4 // 60_000 - 10):
                made.writestr(f"src/f{number}", os.urandom(59_000) + bytes(20_000))

    async def upload(length):
        got = await read_upload(
            SOURCES[kind](length), content_length=None, limits=UploadLimits(), spool_dir=spool,
            parser=InPlace(),
        )
        assert got.upload.total_bytes > length // 2
        await asyncio.to_thread(got.upload.close)

    async def upload_held(length):
        body = b"".join([chunk async for chunk in one_file(length)])
        await asyncio.sleep(0)
        assert len(body) > length * 0.9

    if kind == "held":
        upload = upload_held

    async def main():
        spool.mkdir()
        await upload(1_000_000)
        if kind == "archive":
            make_archive(BODY)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak()
        await asyncio.gather(*(upload(BODY) for _ in range(uploads)))
        print(json.dumps({"growth": peak() - before, "left": os.listdir(spool)}))

    def peak():
        # Not getrusage: its maximum is inherited from the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    SOURCES = {"one_file": one_file, "many_files": many_files, "archive": archive}
    ARCHIVE = spool.parent / "app.zip"
    if kind == "archive":
        make_archive(2_000_000)
    asyncio.run(main())
    """
)


@pytest.mark.parametrize("kind", ["one_file", "many_files", "archive"])
@pytest.mark.parametrize(("uploads", "bound"), [(1, 16 * MIB), (8, 64 * MIB)])
def test_uploads_grow_memory_within_bounds(
    tmp_path: Path, kind: str, uploads: int, bound: int
) -> None:
    assert growth(tmp_path, kind, uploads) < bound


def test_measurement_sees_a_body_that_is_held(tmp_path: Path) -> None:
    assert growth(tmp_path, "held", 1) > 40 * MIB


def growth(tmp_path: Path, kind: str, uploads: int) -> int:
    """The bytes by which the peak of resident memory grows; checks that no file is left."""
    argv = [sys.executable, "-c", _MEASURE, kind, str(uploads), str(tmp_path / "spool")]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, env=paths, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["left"] == []
    return int(measured["growth"])
