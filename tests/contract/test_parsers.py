"""Whatever parses uploads, here or in processes of their own: the same is read, the same refused.

And what no upload does to the processes: they are there before they are needed, have no rights, and
end when they take too much, hang or crash, or when the gateway is gone.
"""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.errors import (
    InvalidField,
    InvalidRequest,
    MoorageError,
    PlannersBusy,
    PlanNotFound,
    PlanTooCostly,
    UploadInvalid,
)
from moorage.parsers.job import JsonRead, ReadJson
from moorage.parsers.plans import IN_PLACE_BYTES, Plans, UploadParser
from moorage.parsers.pool import Budget, ParserPool
from moorage.planning.plan import Plan
from moorage.uploads.request import Parser
from moorage.uploads.room import Uploader
from support.clients.parsing_in_place import InPlace
from support.clients.upload_bodies import contents, document, receive, zip_body, zipped
from support.engines.toolboxes import TOOLBOX
from support.gateway.waiting import until

FILES = {"index.js": b"listen()", "a/b.bin": bytes(range(256)) * 2_000, "empty": b""}
LONG = {"filler": "x" * IN_PLACE_BYTES}
"""What makes a skeleton too long to be parsed in the event loop."""


STRANGER = Uploader("192.0.2.1", has_paid=False)


@asynccontextmanager
async def opened(*, in_advance: int = 3, **options: Any) -> AsyncIterator[ParserPool]:
    pool = ParserPool(in_advance=in_advance, **options)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def parsing(kind: str) -> AsyncIterator[Parser]:
    if kind == "here":
        yield InPlace()
        return
    async with opened() as pool:
        yield UploadParser(pool, STRANGER)


async def plan(
    plans: Plans,
    files: dict[str, bytes],
    spool: Path,
    *,
    uploader: Uploader = STRANGER,
    **others: Any,
) -> Plan:
    """The plan of an upload that is received just so."""
    body = json.dumps(document(files) | {"displayName": "x"} | others).encode()
    got = await receive(body, spool)
    try:
        made = await plans.plan(
            got.upload, got.tree_digest, got.request.settings, TOOLBOX, uploader
        )
        return made.plan
    finally:
        got.upload.close()


def executable_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("run.sh")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, b"#!")
        archive.writestr("big", os.urandom(400_000))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["here", "in processes"])
async def test_what_is_read_is_what_was_sent(kind: str, tmp_path: Path) -> None:
    fields = {"displayName": "Hello", "settings": {"runEnvs": {"A": "b"}}}
    async with parsing(kind) as parser:
        for body in (
            json.dumps(document(FILES) | fields | LONG).encode(),
            zip_body(zipped(FILES)),
            zip_body(zipped({**FILES, "random": os.urandom(500_000)})),
        ):
            got = await receive(body, tmp_path, parser=parser)
            found = contents(got)
            found.pop("random", None)
            assert found == FILES
            got.upload.close()
        got = await receive(zip_body(executable_zip()), tmp_path, parser=parser)
        modes = {path: got.upload.content(path).executable for path in got.upload.paths}
        assert modes == {"run.sh": True, "big": False}
        got.upload.close()
        got = await receive(
            json.dumps(document(FILES) | fields | LONG).encode(), tmp_path, parser=parser
        )
        assert got.request.settings.run_envs == {"A": "b"}
        got.upload.close()
    assert not list(tmp_path.iterdir())


REFUSED: list[tuple[bytes, type[MoorageError], str]] = [
    (json.dumps(document({"../a": b""}) | LONG).encode(), UploadInvalid, "leads out"),
    (json.dumps(document(FILES) | LONG).encode()[:-1], InvalidField, "not valid JSON"),
    (
        json.dumps(document(FILES) | LONG).replace("{", '{"a":1,"a":2,', 1).encode(),
        InvalidField,
        "twice",
    ),
    (zip_body(b"PK nothing"), UploadInvalid, "not a complete zip"),
    (zip_body(zipped({"../a": b"x"})), UploadInvalid, "leads out"),
    (zip_body(zipped({"a": bytes(9_000_000)})), UploadInvalid, "times its packed size"),
]


@pytest.mark.parametrize("kind", ["here", "in processes"])
async def test_what_is_refused_is_refused_alike(kind: str, tmp_path: Path) -> None:
    async with parsing(kind) as parser:
        for body, error, message in REFUSED:
            with pytest.raises(error, match=message):
                await receive(body, tmp_path, parser=parser)
        got = await receive(json.dumps(document(FILES) | LONG).encode(), tmp_path, parser=parser)
        with pytest.raises(InvalidField, match="displayName"):
            _ = got.request
        got.upload.close()
    assert not list(tmp_path.iterdir())


async def test_processes_are_warm_and_stay(tmp_path: Path) -> None:
    async with opened() as pool:
        before = pool.pids
        plans = Plans(pool)
        for number in range(20):
            made = await plan(plans, {"index.js": b"%d" % number}, tmp_path)
            assert made.start == "exec node index.js"
        with pytest.raises(PlanNotFound):
            await plan(plans, {"nothing": b""}, tmp_path)
        assert pool.pids == before
        assert len(before) == 3


async def test_plan_reads_what_is_in_memory_and_what_is_on_disk(tmp_path: Path) -> None:
    package = json.dumps({"scripts": {"start": "node far.js"}, "filler": "x" * 300_000}).encode()
    async with opened() as pool:
        plans = Plans(pool)
        made = await plan(plans, {"a": b"1" * 1_000, "package.json": package}, tmp_path)
        assert made.start == "exec node far.js"
        assert (
            await plan(plans, {"b": b"", "Procfile": b"web: ./b"}, tmp_path)
        ).start == "exec ./b"


async def test_large_document_is_decoded_elsewhere_as_it_would_be_here() -> None:
    document: dict[str, Any] = {
        "text": "é" * 40_000,
        "numbers": [1, -2.5, 1e300, None, True],
        "in": [{"a": []}],
    }
    async with opened() as pool:
        answer = await pool.do(ReadJson(json.dumps(document).encode()), (), STRANGER)
    assert isinstance(answer.outcome, JsonRead)
    assert msgspec.msgpack.decode(answer.outcome.document) == document


@pytest.mark.parametrize(
    "body",
    [
        b"[1]",
        b"{",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":%b}' % (b"9" * 400),
        b'{"a":[%b1]}' % (b"1," * 2_000),
        b'{"a":%b%b}' % (b"[" * 40, b"]" * 40),
        b'{"a":%b%b}' % (b"[" * 50_000, b"]" * 50_000),
    ],
    ids=["list", "torn", "utf8", "half", "integer", "many", "deep", "deepest"],
)
async def test_document_that_is_none_or_has_too_much_in_it_is_refused(body: bytes) -> None:
    async with opened() as pool:
        with pytest.raises(InvalidRequest):
            await pool.do(ReadJson(body), (), STRANGER)
        await pool.do(ReadJson(b"{}"), (), STRANGER)  # the process goes on
        assert len(pool.pids) == 3


class Counting(ParserPool):
    jobs = 0

    async def do(self, *arguments: Any, **options: Any) -> Any:
        self.jobs += 1
        return await super().do(*arguments, **options)


async def test_many_requests_at_once_for_one_plan_are_one_job(tmp_path: Path) -> None:
    pool = Counting()
    await pool.open()
    plans = Plans(pool)
    made = await asyncio.gather(
        *(plan(plans, {"index.js": b"1"}, tmp_path) for _ in range(20))  # more than may wait
    )
    assert all(each == made[0] for each in made)
    assert pool.jobs == 1
    await pool.close()


async def test_small_upload_is_one_job_from_its_body_to_its_plan(tmp_path: Path) -> None:
    pool = Counting()
    await pool.open()
    body = json.dumps(document({"index.js": b"1"}) | {"displayName": "x"}).encode()
    got = await receive(body, tmp_path, parser=UploadParser(pool, STRANGER))
    settings = got.request.settings
    await Plans(pool).plan(got.upload, got.tree_digest, settings, TOOLBOX, STRANGER)
    assert pool.jobs == 1
    await pool.close()


async def test_same_files_settings_and_tools_are_planned_once(tmp_path: Path) -> None:
    pool = Counting()
    await pool.open()
    plans = Plans(pool, max_kept=2)
    first = await plan(plans, {"index.js": b"1"}, tmp_path)
    assert await plan(plans, {"index.js": b"1"}, tmp_path, displayName="other") == first
    assert pool.jobs == 1
    await plan(plans, {"index.js": b"1"}, tmp_path, settings={"port": 8080})
    assert pool.jobs == 2
    await plan(plans, {"index.js": b"2"}, tmp_path)
    assert pool.jobs == 3
    await plan(plans, {"index.js": b"1"}, tmp_path)  # no longer kept
    assert pool.jobs == 4
    tight = Plans(pool, max_kept_bytes=10)
    for _ in range(2):
        await plan(tight, {"index.js": b"1"}, tmp_path)
    assert pool.jobs == 6
    await pool.close()


LARGE = {f"src/module{number}.py": b"app = Nothing()\n" * 5_000 for number in range(60)}
"""Takes some hundredths of a second to plan."""


async def test_too_much_time_is_refused_by_the_file_it_was_at(tmp_path: Path) -> None:
    async with opened(budget=Budget(plan_cpu_seconds=0.005, wall_times=12_000)) as pool:
        before = pool.pids
        with pytest.raises(PlanTooCostly) as refused:
            await plan(Plans(pool), LARGE, tmp_path)
        assert refused.value.path in LARGE
        assert "0.005 s of processor time" in refused.value.message
        await until(lambda: len(pool.pids - before) == 1)


WORST: dict[str, dict[str, bytes]] = {
    "string that is never closed": {"deno.json": b'"' + b'\\"' * 32_700},
    "strings that are never closed": {"deno.json": b'"a\\\n' * 16_000},
    "comments that are never closed": {"deno.json": b"/*a" * 21_000},
    "trailing commas": {"deno.json": b", " * 32_000},
    "keys of many parts": {"Cargo.toml": b".".join([b"a"] * 32_000) + b"=1"},
    "quotes of TOML": {"Cargo.toml": b'"' * 65_000},
    "quotes of TOML, too": {"pyproject.toml": b"\"'#\n" * 16_000},
    "lines of a lock file": {
        "package.json": b'{"dependencies":{"a":"1"}}',
        "pnpm-lock.yaml": b"lockfileVersion: '9.0'\n" + b"  a@1:\n    b\n" * 140_000,
    },
    "one line of a lock file": {
        "package.json": b'{"dependencies":{"a":"1"}}',
        "pnpm-lock.yaml": b"  " + b"a" * 2_000_000,
    },
    "spaces of a script": {
        "package.json": b'{"scripts":{"start":"parcel%b\\na"}}' % (b" " * 4_000)
    },
    "flags of a script": {
        "package.json": b'{"scripts":{"start":"npm%b"}}' % (b" -a" * 1_300 + b" \\n")
    },
}


@pytest.mark.parametrize("name", WORST)
async def test_no_parser_of_the_planner_takes_long_at_its_worst(name: str, tmp_path: Path) -> None:
    """Before, the first of them took 16 s and the fifth 18; a process that takes one is ended."""
    async with opened(budget=Budget(plan_cpu_seconds=1.0, wall_times=120)) as pool:
        before = pool.pids
        with suppress(PlanNotFound, UploadInvalid):
            await plan(Plans(pool), WORST[name], tmp_path)
        assert pool.pids == before


async def test_too_much_memory_is_refused(tmp_path: Path) -> None:
    body = document(FILES) | {"x": [1.5] * 250_000}
    numbers = json.dumps(body, separators=(",", ":")).encode()
    async with opened(budget=Budget(max_memory_bytes=42 * 1024**2)) as pool:
        before = pool.pids
        with pytest.raises(PlanTooCostly, match="MiB of memory"):
            await receive(numbers, tmp_path, parser=UploadParser(pool, STRANGER))
        await until(lambda: len(pool.pids - before) == 1)
        assert not list(tmp_path.iterdir())


async def test_command_that_the_kernel_would_not_take_is_refused(tmp_path: Path) -> None:
    """A site without its secrets: the command that removes them names each."""
    secrets = {f"{n}-{'x' * 200}.p12": b"" for n in range(700)}
    async with opened() as pool:
        with pytest.raises(PlanTooCostly, match="in one command"):
            await plan(Plans(pool), {"index.html": b"hi", **secrets}, tmp_path)


async def test_one_that_hangs_is_ended_and_replaced(tmp_path: Path) -> None:
    async with opened(budget=Budget(plan_cpu_seconds=0.1, wall_times=20)) as pool:
        before = pool.pids
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PlannersBusy):
            await plan(Plans(pool), {"index.js": b""}, tmp_path)
        await until(lambda: len(pool.pids - before) == 1)
        assert (await plan(Plans(pool), {"index.js": b""}, tmp_path)).port == 3000


async def test_one_that_dies_costs_nobody_an_answer(tmp_path: Path) -> None:
    async with opened() as pool:
        for number, pid in enumerate(pool.pids):
            os.kill(pid, signal.SIGKILL)
            assert await plan(Plans(pool), {"index.js": b"%d" % number}, tmp_path)
            # One at a time: a job is tried twice.
            await until(lambda pid=pid: pid not in pool.pids and len(pool.pids) == 3)


async def test_strangers_wait_while_wallets_that_paid_go_on(tmp_path: Path) -> None:
    """Two of three places are held by processes that are stopped, the most that strangers get."""

    async with opened(max_wait_seconds=0.2, budget=Budget(wall_times=60)) as pool:
        plans = Plans(pool)
        stopped = sorted(pool.pids)[:2]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        held: list[asyncio.Task[Plan]] = []
        number = 0
        while len(held) < 2:  # until both that are stopped have got a job
            number += 1
            uploader = Uploader(f"192.0.2.{number}", has_paid=False)
            job = asyncio.create_task(
                plan(plans, {"index.js": b"%d" % number}, tmp_path, uploader=uploader)
            )
            if not (await asyncio.wait([job], timeout=3))[0]:
                held.append(job)
        newcomer = Uploader("192.0.2.200", has_paid=False)
        with pytest.raises(PlannersBusy):
            await plan(plans, {"index.js": b"new"}, tmp_path, uploader=newcomer)
        payer = Uploader("0xca5b", has_paid=True)
        assert await plan(plans, {"index.js": b"paid"}, tmp_path, uploader=payer)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*held)


async def test_another_process_is_started_when_all_are_at_work_and_stays(tmp_path: Path) -> None:
    async with opened(in_advance=1, budget=Budget(wall_times=60)) as pool:
        (first,) = pool.pids
        await plan(Plans(pool), {"index.js": b"1"}, tmp_path)
        assert pool.pids == {first}
        os.kill(first, signal.SIGSTOP)
        jobs = [
            asyncio.create_task(
                plan(
                    Plans(pool),
                    {"index.js": text},
                    tmp_path,
                    uploader=Uploader(name, has_paid=False),
                )
            )
            for name, text in (("192.0.2.1", b"2"), ("192.0.2.2", b"3"))
        ]
        done, (held,) = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        assert all(job.result().port == 3000 for job in done)
        os.kill(first, signal.SIGCONT)
        assert (await held).port == 3000
        assert first in pool.pids
        assert len(pool.pids) == 2


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_who_no_longer_waits_leaves_nothing_open(tmp_path: Path) -> None:
    async with opened() as pool:
        before, open_before = pool.pids, descriptors()
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        body = zip_body(zipped({"a": os.urandom(500_000)}))
        reading = asyncio.create_task(
            receive(body, tmp_path / "spool", parser=UploadParser(pool, STRANGER))
        )
        await until(lambda: descriptors() > open_before + 2)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not list((tmp_path / "spool").iterdir())
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: descriptors() == open_before)
        assert pool.pids == before


def said(pid: int, field: str) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))


LIMITED = ("cpu time", "file size", "core file size", "processes", "open files", "address space")


@pytest.mark.root
async def test_processes_have_no_rights() -> None:
    os.environ["MOORAGE_SECRET_OF_A_TEST"] = "s"
    async with opened() as pool:
        for pid in pool.pids:
            assert [said(pid, name) for name in ("Uid", "Gid", "NoNewPrivs")] == [
                "65534",
                "65534",
                "1",
            ]
            assert int(said(pid, "CapEff"), 16) == int(said(pid, "CapPrm"), 16) == 0
            assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
            links = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
            kinds = sorted(link.partition(":")[0] for link in links)
            assert kinds == ["/dev/null", "/dev/null", "/memfd", "pipe", "socket"]
            limits = Path(f"/proc/{pid}/limits").read_text()
            for name in LIMITED:
                assert re.search(rf"Max {name} +\d+ +\d+ ", limits)
    del os.environ["MOORAGE_SECRET_OF_A_TEST"]


_OWNER = """
import asyncio
from moorage.parsers.pool import ParserPool

async def main():
    pool = ParserPool(in_advance=3)
    await pool.open()
    print(*pool.pids, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_processes_end_with_the_gateway_however_it_ends() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 3
    owner.kill()
    owner.wait()
    owner.stdout.close()
    asyncio.run(until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)))
