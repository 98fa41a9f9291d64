"""`operator bases`: the images that builds begin with, and the digests that a registry has now."""

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.cli.main import run
from moorage.planning.plan import Stack
from moorage.records.deployment import DeploymentStatus
from moorage.settings import load_settings
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, CAROL, PLAN, add_deployment, add_project
from support.engines.base_image import push_base
from support.engines.registry_fixture import RegistryServer, started_registry

pytestmark = pytest.mark.root  # the registry's package is installed with the sandbox's

PYTHON = {"stack": Stack.PYTHON, "toolchains": {}, "host_tools": {"python": "3.13.7", "uv": "1"}}
OLDER = {**PYTHON, "host_tools": {"python": "3.12.11"}}
RUBY = {"stack": Stack.RUBY, "toolchains": {}, "host_tools": {"ruby": "3.4.5", "bundler": "2.5.22"}}
OWN = {"stack": Stack.DOCKERFILE, "toolchains": {}, "host_tools": {}}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with started_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
async def digest(registry: RegistryServer) -> str:
    """Of the registry's `base:1`."""
    return await push_base(registry.host, mark="now")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials of Docker's."""
    monkeypatch.setenv("HOME", str(tmp_path))


async def serves(db: Database, name: str, plan: dict[str, Any]) -> None:
    project = await add_project(db, ALICE, name)
    text = msgspec.json.encode(msgspec.structs.replace(PLAN, **plan)).decode()
    await add_deployment(db, project, DeploymentStatus.READY, serving=True, plan=text)


async def bases(
    db_path: Path, registry: RegistryServer, *words: str, python: str = "base:1", engine: str = ""
) -> int:
    config = db_path.parent / "moorage.toml"
    config.write_text(
        f'data_dir = "{db_path.parent}"\n'
        f'[payments]\npay_to = "{CAROL}"\n'
        '[chains.arbitrum]\nrpc_urls = ["http://127.0.0.1:1/"]\n'
        f'[machine]\nisolation = "{engine or "docker"}"\n'
        f'[images]\nbase_images = {{python = "{registry.host}/{python}", '
        f'ruby = "{registry.host}/gone:{{minor}}", php = "kept:1"}}\n'
    )
    return await asyncio.to_thread(run, ("operator", "bases", *words, "--config", str(config)))


@pytest.mark.usefixtures("home")
async def test_images_of_projects_that_serve_are_listed_with_the_digests_of_now(
    db: Database,
    db_path: Path,
    registry: RegistryServer,
    digest: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, plan in (("a", PYTHON), ("b", PYTHON), ("c", RUBY), ("d", OWN)):
        await serves(db, name, plan)
    assert await bases(db_path, registry, "--json") == 1  # one is not to be had
    first, second = msgspec.json.decode(capsys.readouterr().out)["bases"]
    python = {"program": "python", "image": f"{registry.host}/base:1", "projects": 2}
    assert first == {**python, "is_pinned": False, "digest": digest, "why": ""}
    assert (second["image"], second["digest"]) == (f"{registry.host}/gone:3.4", None)
    assert "no such image" in second["why"]


@pytest.mark.usefixtures("home")
async def test_what_is_printed_to_pin_them_is_the_setting(
    db: Database,
    db_path: Path,
    registry: RegistryServer,
    digest: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await serves(db, "a", PYTHON)
    assert await bases(db_path, registry, "--pin") == 0
    printed = capsys.readouterr().out
    pinned = f"base:1@{digest}"
    found = tomllib.loads(printed)["images"]["base_images"]
    assert found == {
        "python": f"{registry.host}/{pinned}",
        "ruby": f"{registry.host}/gone:{{minor}}",
        "php": "kept:1",
    }
    file = db_path.parent / "pinned.toml"
    file.write_text(printed)
    assert load_settings(file=file, environ={}).base_images == found

    newer = await push_base(registry.host, mark="newer")
    assert await bases(db_path, registry, "--pin", python=pinned) == 0
    printed = capsys.readouterr().out
    assert tomllib.loads(printed)["images"]["base_images"]["python"] == (
        f"{registry.host}/base:1@{newer}"
    )
    assert await bases(db_path, registry, python=pinned) == 0
    assert "yes" in capsys.readouterr().out


@pytest.mark.usefixtures("home")
async def test_of_two_images_of_a_program_the_one_of_most_projects_is_pinned_and_the_other_named(
    db: Database,
    db_path: Path,
    registry: RegistryServer,
    digest: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, plan in (("a", OLDER), ("b", PYTHON), ("c", PYTHON)):
        await serves(db, name, plan)
    await push_base(registry.host, mark="now", name="python", tags=("3.12", "3.13"))
    assert await bases(db_path, registry, "--pin", python="python:{minor}") == 0
    printed = capsys.readouterr()
    pinned = tomllib.loads(printed.out)["images"]["base_images"]["python"]
    assert pinned.startswith(f"{registry.host}/python:3.13@sha256:")
    assert "python:3.12 is left out" in printed.err


async def test_sandbox_has_no_images(
    db: Database, db_path: Path, registry: RegistryServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bases(db_path, registry, engine="root") != 0
    assert "on no image" in capsys.readouterr().err
