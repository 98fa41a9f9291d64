"""Small apps of every stack, planned, built and started in a real sandbox, and answering.

Their plans are pinned by tests/plans, too. What needs much is built only when asked for:

    CORPUS=all .venv/bin/pytest tests/corpus
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest

from moorage.address import Address
from moorage.clock import SystemClock
from moorage.engines.engine import BuildSpec, InstanceSpec, Limits
from moorage.errors import DeployFailed
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from moorage.sdk.archive import list_files
from moorage.toolchains.inventory import Inventory
from moorage.toolchains.store import Npm, ToolchainStore, find_npm
from moorage.uploads.reader import DirectoryTree
from support.engines.memory_tree import app_text
from support.engines.sandbox_fixture import make_sandbox
from support.gateway.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.spread("name")]

MIB = 1024 * 1024
APPS = Path(__file__).parent
# By the seconds and the hundreds of megabytes that they take.
HEAVY = frozenset(
    (
        *("angular", "angular-server", "astro", "astro-server", "gradio", "nest", "next"),
        *("next-standalone", "sveltekit-auto"),
        *("next-export", "nuxt", "nx", "react-router", "react-router-spa", "remix", "streamlit"),
        *(
            "sveltekit",
            "tanstack-start",
            "tanstack-start-handler",
            "turbo",
            "vite",
            "deno",
            "fasthtml",
            "pnpm-workspaces",
        ),
        *(
            "go",
            "java",
            "rust",
            "dockerfile-go",
            "dockerfile-deno",
            "dockerfile-rust",
            "vitepress",
            "rsbuild",
            "vite-unbuilt",
        ),
        *("dash", "shiny", "chainlit", "panel", "mkdocs", "nx-project"),
        *("eleventy-alone", "hugo", "pelican", "sphinx"),
    )
)
IS_ALL = os.environ.get("CORPUS") == "all"
CASES = sorted(
    path.parent.name for path in APPS.glob("*/app.txt") if IS_ALL or path.parent.name not in HEAVY
)
LIMITS = Limits(
    memory_bytes=2048 * MIB, cpu_millis=2000, pids=512, disk_bytes=(1536 if IS_ALL else 256) * MIB
)
FROM_NPM = {"node", "npm", "pnpm", "yarn", "bun"}
"""What builds get from there, as the machine may lack it."""

# Pages whose words are put together by the visitor's browser.
SAYS = {"streamlit": "<title>Streamlit</title>", "chainlit": "<title>Assistant</title>"}
# What else is asked for, and how the answer begins.
ASKED = {
    "hugo": {"/": "200 <link rel=canonical href=/>"},  # of this site, whatever its baseURL
    "angular": {"/cart/5": "200 <!doctype html>"},
    "next-standalone": {"/words.txt": "200 words"},
    "vitepress": {"/words": "200 <!DOCTYPE html>", "/none": "404 <!DOCTYPE html>"},
    "dockerfile-stages": {
        "/any/page": "200 <p>hello",
        "/package.json": "200 <p>hello",  # what is in no stage is no file
    },
    "dockerfile-page": {"/about/": "200 <p>hello", "/any": "200 <p>hello"},
    "page-of-any-name": {"/todo%20app.html": "200 <p>hello"},
    "tanstack-start-handler": {"/words.txt": "200 words"},
    "pnpm": {"/": "200 hello from pnpm: true, no store is left"},
    "php": {"/posts/5": "200 hello from php at /posts/5", "/style.css": "200 p {", "/.env": "404 "},
}


class Tools:
    """What toolchains there are, and a store that the tests of a run share."""

    def __init__(self, directory: Path) -> None:
        npm = find_npm()
        assert npm is not None
        self._npm = Npm(npm, directory=directory / "npm")
        self._directory = directory
        self.toolbox: Toolbox = asyncio.run(self._look())

    def store(self) -> ToolchainStore:
        made = ToolchainStore(self._directory / "toolchains", npm=self._npm, clock=SystemClock())
        made.open()
        return made

    async def _look(self) -> Toolbox:
        self._link_rust()
        inventory = Inventory(
            self.store(),
            npm=self._npm,
            listing_file=self._directory / "toolchains.json",
            clock=SystemClock(),
        )
        await inventory.open()

        async def all_are_listed() -> bool:
            await inventory.refresh()  # what a registry did not say, it is asked again
            return set(inventory.toolbox.store) >= FROM_NPM

        await until(all_are_listed, seconds=300, pause_seconds=5)
        return inventory.toolbox

    def _link_rust(self) -> None:
        """The developer's own Rust, as an operator would link one."""
        if shutil.which("rustc") is None:
            return
        root = subprocess.run(["rustc", "--print=sysroot"], capture_output=True, check=True)
        said = subprocess.run(["rustc", "--version"], capture_output=True, check=True).stdout
        place = self._directory / "toolchains" / "rust" / said.decode().split()[1]
        place.parent.mkdir(parents=True)
        place.symlink_to(root.stdout.decode().strip())


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return Tools(tmp_path_factory.mktemp("tools"))


@pytest.mark.parametrize("name", CASES)
async def test_app_is_built_and_answers(name: str, tools: Tools, tmp_path: Path) -> None:
    source = tmp_path / "source"
    plan = make_plan(_tree(name, source), _settings(name), tools.toolbox)
    store = tools.store()
    sandbox = make_sandbox(tmp_path / "state", toolchains=store)
    await sandbox.open()
    try:
        await sandbox.build(
            BuildSpec(
                deployment_id="app", source=source, plan=plan, limits=LIMITS, timeout_seconds=900
            )
        )
        spec = InstanceSpec(deployment_id="app", plan=plan, limits=LIMITS)
        instance = await sandbox.start(spec, timeout_seconds=300)
        assert SAYS.get(name, f"hello from {name}") in await _answer(instance.address, "/")
        for path, beginning in ASKED.get(name, {}).items():
            assert (await _answer(instance.address, path)).startswith(beginning), path
    except DeployFailed as failed:
        pytest.fail(f"{failed.cause}: {failed.reason}\n{failed.log_tail}\n{_shown(plan)}")
    finally:
        await sandbox.close(stop_apps=True)
        await store.close()
        shutil.rmtree(tmp_path / "state")


def _settings(name: str) -> Settings:
    head, _ = app_text((APPS / name / "app.txt").read_text())
    return msgspec.json.decode(head or "{}", type=Settings)


def _tree(name: str, source: Path) -> DirectoryTree:
    """The app's files, written out, with the lock file of uv, which names its index, made here."""
    _, files = app_text((APPS / name / "app.txt").read_text())
    for path, text in files.items():
        file = source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if name.endswith("-uv"):
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "lock", "-q", "--no-python-downloads"], cwd=source, check=True)
    return DirectoryTree(source, list_files(source).sizes)


async def _answer(address: Address | None, path: str) -> str:
    """The status and the page."""
    assert address is not None
    connector = None if address.path is None else aiohttp.UnixConnector(str(address.path))
    host = address.text if address.path is None else "app"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://{host}{path}") as answer,
    ):
        return f"{answer.status} {await answer.text()}"


def _shown(plan: Plan) -> str:
    return msgspec.json.format(msgspec.json.encode(plan)).decode()
