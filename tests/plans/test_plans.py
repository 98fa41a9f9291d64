"""Golden plans: of each small app beside this file, of tests/corpus and of tests/fresh."""

import os
from pathlib import Path

import msgspec
import pytest

from moorage.errors import InvalidRequest
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree, app_text
from support.engines.toolboxes import EVERYTHING, TOOLBOX

TESTS = Path(__file__).parent.parent
CASES = sorted(path.parent for path in TESTS.glob("*/*/app.txt"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_app_gets_its_golden_plan(case: Path) -> None:
    made = _outcome(case)
    golden = case / "plan.json"
    if os.environ.get("REWRITE_PLANS"):
        golden.write_bytes(made)
    assert made.decode() == golden.read_text()


def test_every_case_is_named_for_its_outcome() -> None:
    assert CASES
    for case in CASES:
        refused = "error" in msgspec.json.decode((case / "plan.json").read_bytes())
        assert refused == case.name.endswith("-refused"), case.name


def _outcome(case: Path) -> bytes:
    """The plan, or the refusal a client sees, as indented JSON."""
    head, files = app_text((case / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    toolbox = TOOLBOX if case.name.endswith("-lacking-refused") else EVERYTHING
    try:
        made = msgspec.to_builtins(make_plan(MemoryTree(files), settings, toolbox))
    except InvalidRequest as error:
        made = {"error": type(error).__name__, "message": error.message}
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
