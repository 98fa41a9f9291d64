"""Plans of repositories of 5,000 files: what a quote or a deploy waits for, the files in memory."""

import json
import time
from collections.abc import Callable, Mapping

from measure import Row, median
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

FILES = 5_000
ROUNDS = 15
TARGET_MS = 150
_MODULE = "export const answer = 42; // a line as long as lines are, on the whole\n" * 60
_PYTHON = (
    "import os\n\n\ndef answer(first, second):\n    return os.getpid() + first * second\n" * 40
)


def run() -> list[Row]:
    """The slowest of some kinds of repositories, each planned ROUNDS times."""
    return [
        _row(name, make)
        for name, make in (("monorepo of 120 workspaces", _monorepo), ("Python package", _package))
    ]


def _row(name: str, make: Callable[[], Mapping[str, str]]) -> Row:
    tree = MemoryTree(make())
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        make_plan(tree, Settings(), TOOLBOX)
        seconds.append(time.perf_counter() - started)
    took = median(seconds) * 1000
    return Row(
        f"a plan of {FILES:,} files: {name}",
        f"{took:.1f} ms",
        f"< {TARGET_MS} ms",
        took < TARGET_MS,
        f"median of {ROUNDS}, slowest {max(seconds) * 1000:.1f} ms",
    )


def _monorepo() -> dict[str, str]:
    files = {"package.json": '{"workspaces": ["packages/*", "apps/*"]}', "pnpm-lock.yaml": ""}
    files["apps/web/package.json"] = json.dumps(
        {"scripts": {"start": "node s.js"}, "dependencies": {"lib0": "*"}}
    )
    for number in range(119):
        needs = {f"lib{number + 1}": "*"}
        manifest = {"name": f"lib{number}", "scripts": {"build": "tsc"}, "dependencies": needs}
        files[f"packages/lib{number}/package.json"] = json.dumps(manifest)
    return files | {
        f"packages/lib{number % 119}/src/module{number}.ts": _MODULE
        for number in range(FILES - len(files))
    }


def _package() -> dict[str, str]:
    """No module has an app: as many as are read at most are read."""
    files = {"requirements.txt": "fastapi\n", "main.py": "from shop import create_app\n"}
    return files | {
        f"shop/part{number % 50}/module{number}.py": _PYTHON for number in range(FILES - 2)
    }
