"""The client with its own requirements alone: what only the gateway needs can't be imported."""

import asyncio
import json
import os
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

PROGRAM = """
import importlib, json, pkgutil, sys
from importlib.machinery import PathFinder

missing = set(json.loads(sys.argv[1]))

class Finder:
    find_distributions = staticmethod(PathFinder.find_distributions)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in missing:
            return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Finder() if each is PathFinder else each for each in sys.meta_path]
if sys.argv[2] == "import":
    for root in sys.argv[3:]:
        package = importlib.import_module(root)
        for found in pkgutil.walk_packages(getattr(package, "__path__", []), root + "."):
            if not found.name.startswith("moorage.cli.operator"):
                importlib.import_module(found.name)
else:
    from moorage.cli.main import run
    sys.exit(run(sys.argv[2:]))
"""


def with_all_they_need(requirements: list[str]) -> set[str]:
    """The names of these distributions and of all that they require on this machine."""
    found: set[tuple[str, str]] = set()
    asked = [(Requirement(each), "") for each in requirements]
    while asked:
        wanted, by_extra = asked.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": by_extra}):
            continue
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in found if known == name}:
            found.add((name, extra))
            asked += [(Requirement(each), extra) for each in distribution(name).requires or ()]
    return {name for name, _ in found}


def missing_with(requirements: list[str]) -> list[str]:
    """The top-level modules that are here, and would not be with these requirements alone."""
    installed = with_all_they_need(requirements) | {"moorage"}
    return [
        module
        for module, names in packages_distributions().items()
        if installed.isdisjoint(canonicalize_name(name) for name in names)
    ]


async def run(*arguments: str, requirements: list[str], **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, json.dumps(missing_with(requirements)), *arguments),
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=120)
    return process.returncode or 0, out.decode(), err.decode()


def test_what_only_the_gateway_needs_is_missing_in_these_tests() -> None:
    missing = missing_with(PROJECT["dependencies"])
    assert {"sqlalchemy", "starlette", "uvicorn", "structlog", "mcp"} <= set(missing)
    assert {"aiohttp", "msgspec"}.isdisjoint(missing)


async def test_client_is_imported_with_its_own_requirements_alone() -> None:
    roots = ("moorage.sdk", "moorage.wire", "moorage.cli")
    code, _, err = await run("import", *roots, requirements=PROJECT["dependencies"])
    assert code == 0, err


@pytest.mark.parametrize("arguments", [("--help",), ("deploy", "--help"), ("topup", "--help")])
async def test_its_commands_run(arguments: tuple[str, ...]) -> None:
    code, out, err = await run(*arguments, requirements=PROJECT["dependencies"])
    assert code == 0, err
    assert "Usage: moorage" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_knows_the_commands_and_their_flags(shell: str, tmp_path: Path) -> None:
    code, script, err = await run("completion", shell, requirements=PROJECT["dependencies"])
    assert code == 0, err
    for word in ("deploy", "topup", "--max-usd", "--gateway"):
        assert word in script
    if shell == "bash":
        (tmp_path / "script").write_text(script)
        checked = await asyncio.create_subprocess_exec("bash", "-n", str(tmp_path / "script"))
        assert await checked.wait() == 0


@pytest.mark.parametrize(
    ("command", "extra"), [("operator audit", "gateway"), ("check", "gateway"), ("mcp", "mcp")]
)
async def test_command_that_needs_more_says_what_to_install(command: str, extra: str) -> None:
    key = {"MOORAGE_PRIVATE_KEY": "0x" + "11" * 32, "MOORAGE_GATEWAY": "http://127.0.0.1:9"}
    code, _, err = await run(*command.split(), requirements=PROJECT["dependencies"], **key)
    assert code == 2, err
    assert f"pip install 'moorage[{extra}]'" in err


async def test_tools_for_agents_need_their_own_extra_alone() -> None:
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["mcp"]
    code, _, err = await run("import", "moorage.mcp.local", requirements=needed)
    assert code == 0, err
