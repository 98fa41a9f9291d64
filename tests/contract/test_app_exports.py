"""The files of an app in the sandbox are exported from its disk, whether it runs or not."""

import asyncio
import json
from pathlib import Path

import pytest

from moorage.engines.disks.disk import Disk
from moorage.engines.sandbox.sandbox import Sandbox
from support.engines.small_apps import build, get, plan, start

pytestmark = pytest.mark.root

WRITES = """\
const fs = require('fs');
require('http').createServer((request, response) => {
  let said = 'written';
  try { fs.writeFileSync('/app/state.json', '{}'); } catch (error) { said = error.code; }
  response.end(JSON.stringify(said));
}).listen(process.env.PORT);
"""


async def test_gateway_that_died_in_an_export_leaves_an_app_its_files(
    sandbox: Sandbox, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "index.js").write_text(WRITES)
    await build(sandbox, source, plan())
    await start(sandbox, plan())
    await sandbox.stop("first")
    with monkeypatch.context() as patched:
        patched.setattr(Disk, "release", lambda disk: True)  # nothing is undone
        await sandbox.export_files("first", tmp_path / "files")
    assert (tmp_path / "files/index.js").read_text() == WRITES
    instance = await start(sandbox, plan())
    assert json.loads(await asyncio.to_thread(get, instance.address, "/")) == "written"
