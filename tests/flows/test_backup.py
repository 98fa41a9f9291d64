"""A gateway is saved while it runs under load, and put back into another, empty directory."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moorage.archive.project import FILES, VARIABLES, VOLUME, new_key, open_archive, unseal
from moorage.backup.archive import digest_of
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.gateway_fixture import moorage as run_moorage
from support.gateway.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.long]

# Counts its visits in its volume, and tells what it was given.
COUNTER = {
    "index.js": """\
const fs = require('fs'), file = '/data/visits';
require('http').createServer((request, response) => {
  let visits = 0;
  try { visits = Number(fs.readFileSync(file, 'utf8')); } catch {}
  if (request.url === '/count') fs.writeFileSync(file, String(++visits));
  response.end(JSON.stringify({visits, secret: process.env.SECRET}));
}).listen(process.env.PORT);
"""
}


async def moorage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run_moorage, *arguments, env=os.environ)


async def audit(gateway: DevGateway) -> Any:
    done = await moorage("operator", "audit", "--data-dir", str(gateway.data_dir), "--json")
    return json.loads(done.stdout)


@contextlib.asynccontextmanager
async def visitors(wallet: Wallet, names: list[str], path: str) -> AsyncIterator[list[int]]:
    """Somebody visits each app all the time; gives the statuses seen."""
    seen: list[int] = []

    async def visit(name: str) -> None:
        while True:
            seen.append((await wallet.visit(name, path))[0])

    tasks = [asyncio.create_task(visit(name)) for name in names]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_gateway_saved_under_load_comes_back_on_an_empty_machine(tmp_path: Path) -> None:
    saved, restored = tmp_path / "backup", tmp_path / "restored"
    settings = {"requests_per_minute": "100000", "watch_seconds": "1"}
    with running(tmp_path / "data", **settings) as old:
        wallet = await Wallet(old).fund()
        plain, counter = fresh_name(), fresh_name()
        await wallet.settled(await wallet.deploy_paid(plain))
        deployed = await wallet.deploy_paid(
            counter, COUNTER, settings={"volume": True, "runEnvs": {"SECRET": "it's $afe"}}
        )
        assert (await wallet.settled(deployed))["status"] == "ready"
        for _ in range(3):
            await wallet.visit(counter, "/count")

        async with visitors(wallet, [plain, counter], "/") as seen:
            await until(lambda: len(seen) > 10)
            made = await moorage(
                "operator", "backup", str(saved), "--data-dir", str(old.data_dir), "--json"
            )
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["apps"] == 2
        assert json.loads(made.stdout)["volumes"] == 1
        assert set(seen) == {200}
        assert [path.name for path in old.data_dir.glob(".backup-*")] == []

        await wallet.visit(counter, "/count")  # what comes after it is not in it
        paid_later = await wallet.pay(1_000_000)
    # Once more of the gateway that has stopped: its disks are not mounted.
    still = await moorage(
        "operator", "backup", str(tmp_path / "still"), "--data-dir", str(old.data_dir)
    )
    assert still.returncode == 0, still.stderr
    copied = await moorage(
        "operator", "restore", str(tmp_path / "still"), "--data-dir", str(tmp_path / "two")
    )
    assert copied.returncode == 0, copied.stderr
    image = f"apps/volumes/{deployed.body['projectId']}/disk.img"
    assert digest_of(tmp_path / "two" / image) == digest_of(old.data_dir / image)

    await one_project_comes_out_of_it(tmp_path / "still", counter)
    refused = await moorage("operator", "restore", str(saved), "--data-dir", str(old.data_dir))
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
    done = await moorage("operator", "restore", str(saved), "--data-dir", str(restored))
    assert done.returncode == 0, done.stderr
    # Chains are no gateway's: they go on.
    shutil.copytree(old.data_dir / "chains", restored / "chains", symlinks=True)

    with running(restored, **settings) as new:
        again = Wallet(new, wallet.key)
        early = await again.call("GET", "/agent/credits")
        assert (early.status, early.body["code"]) == (401, "timestamp_expired")
        for name in (plain, counter):
            await again.until_answers(name)
        assert await again.visit(plain) == (200, "hello world")
        status, page = await again.visit(counter)
        assert (status, json.loads(page)) == (200, {"visits": 3, "secret": "it's $afe"})

        async with asyncio.timeout(60):  # until the later payment is found on its chain
            while paid_later not in await exported(restored):
                await asyncio.sleep(0.2)
        report = await audit(new)
        assert report["ok"] is True, report


async def one_project_comes_out_of_it(backup: Path, name: str) -> None:
    """Files, volume and variables of one project, for its owner's key."""
    private, public = new_key()
    file = backup.with_name("one.tar")
    taken = ("--project", name, "--to", str(file), "--public-key", public)
    done = await moorage("operator", "restore", str(backup), *taken)
    assert done.returncode == 0, done.stderr
    with file.open("rb") as source:
        archive = open_archive(source)
        parts = {part.name: io.BytesIO() for part in archive.manifest.parts}
        for part in archive.manifest.parts:
            archive.copy_part(part, parts[part.name])
    assert archive.manifest.left_out == {}
    variables = json.loads(unseal(parts[VARIABLES].getvalue(), private))
    assert variables["run"] == {"SECRET": "it's $afe"}
    with tarfile.open(fileobj=io.BytesIO(parts[VOLUME].getvalue())) as volume:
        visits = volume.extractfile("data/visits")
        assert visits is not None
        assert visits.read() == b"4"
    with tarfile.open(fileobj=io.BytesIO(parts[FILES].getvalue())) as files:
        assert "files/index.js" in files.getnames()
    unknown = await moorage("operator", "restore", str(backup), "--project", "nobody-has-it")
    assert (unknown.returncode, "no project" in unknown.stderr) == (1, True)


async def exported(data_dir: Path) -> str:
    """Returns the ledger as `moorage operator ledger export` prints it."""
    ran = await moorage("operator", "ledger", "export", "--data-dir", str(data_dir))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
