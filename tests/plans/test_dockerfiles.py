"""Golden Dockerfiles: how an app is built where apps run in images, beside its golden plan."""

import os
from pathlib import Path

import msgspec
import pytest

from moorage.engines.dockerd.dockerfile import generated
from moorage.engines.images.base_images import BaseImages, toolbox_of_images
from moorage.engines.images.recipe import Materials
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles
from support.engines.memory_tree import MemoryTree, app_text
from support.engines.toolboxes import EVERYTHING

TESTS = Path(__file__).parent.parent
CASES = sorted(path.parent for path in TESTS.glob("*/*/Dockerfile.golden"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_plan_gets_its_golden_dockerfile(case: Path) -> None:
    made = _dockerfile(case)
    golden = case / "Dockerfile.golden"
    if os.environ.get("REWRITE_PLANS"):
        golden.write_text(made)
    assert made == golden.read_text()


def test_there_are_golden_dockerfiles() -> None:
    assert len(CASES) >= 9


def _dockerfile(case: Path) -> str:
    """The Dockerfile, and the directories that its COPY lines name."""
    head, files = app_text((case / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    plan = make_plan(MemoryTree(files), settings, toolbox_of_images(EVERYTHING, Dockerfiles.BUILT))
    materials = Materials(
        bases=BaseImages(),
        tools={name: Path(f"/gateway/bin/{name}") for name in ("caddy", "uv")},
    )
    written = generated(plan, materials, set(files) & set(plan.install_inputs))
    contexts = "".join(f"# context {name}: {path}\n" for name, path in written.contexts.items())
    return f"{contexts}{written.dockerfile}"
