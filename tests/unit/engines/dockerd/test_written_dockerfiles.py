"""What the Dockerfiles of planned apps must have, and what is left of an upload's own."""

from pathlib import Path

import msgspec
import pytest

from moorage.engines.dockerd.dockerfile import generated, own, step_named
from moorage.engines.images.base_images import BaseImages, toolbox_of_images
from moorage.engines.images.recipe import Materials
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles
from support.engines.memory_tree import MemoryTree, app_text
from support.engines.toolboxes import EVERYTHING

TESTS = Path(__file__).parents[3]
TOOLS = {name: Path(f"/gateway/bin/{name}") for name in ("caddy", "uv")}


def planned(case: str) -> tuple[Plan, set[str]]:
    """An app of the golden plans, as it is planned for images, and the names of its files."""
    head, files = app_text((TESTS / case / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    plan = make_plan(MemoryTree(files), settings, toolbox_of_images(EVERYTHING, Dockerfiles.BUILT))
    return plan, set(files)


def materials(plan: Plan, *, has_trust: bool = False, **bases: str) -> Materials:
    return Materials(
        bases=BaseImages(images=bases),
        tools=TOOLS,
        toolchains={name: Path(f"/store/{name}/{v}") for name, v in plan.toolchains.items()},
        has_trust=has_trust,
    )


def test_base_image_is_the_operators() -> None:
    plan, files = planned("plans/fastapi")
    version = plan.host_tools["python"]
    bases = BaseImages(images={"python": "hub.example/mirror/py:{major}-{version}"})
    given = msgspec.structs.replace(plan)
    made = generated(given, Materials(bases=bases, tools=TOOLS), files).dockerfile
    assert made.splitlines()[0] == f"FROM hub.example/mirror/py:3-{version}"


@pytest.mark.parametrize("name", ["a$HOME.txt", "b*.txt", "[c].txt", "d e.txt", '"e".txt'])
def test_file_whose_name_is_a_pattern_is_copied_with_all_others(name: str) -> None:
    plan, _ = planned("plans/fastapi")
    copied = [
        line
        for line in generated(plan, materials(plan), [name]).dockerfile.splitlines()
        if line.startswith("COPY --chown")
    ]
    assert copied == ['COPY --chown=1000:1000 [".","/app/"]']


def test_steps_of_a_plan_are_told_from_the_others() -> None:
    plan, files = planned("plans/vite")
    lines = generated(plan, materials(plan, has_trust=True), files).dockerfile.splitlines()
    assert [named for line in lines if (named := step_named(line))] == ["install", "build"]
    assert [step_named(line) for line in lines if line.startswith("RUN ")] == ["install", "build"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("# syntax=evil.example/x\nFROM a\n", "#\nFROM a\n\n"),
        ("#syntax = evil/x\n# escape=`\n# syntax=evil/x\nFROM a", "# escape=`\n#\n#\nFROM a\n"),
        ("\ufeff# syntax=evil/x\nFROM a", "#\nFROM a\n"),
        ("\n# syntax=evil/x\nFROM a", "#\n#\nFROM a\n"),
        ("//syntax=evil/x\nFROM a", "#\n//syntax=evil/x\nFROM a\n"),
        ('{"syntax": "evil/x"}', '#\n{"syntax": "evil/x"}\n'),
        ("#!/usr/bin/x\n# syntax=evil/x\nFROM a", "#\n#\nFROM a\n"),
        ("# words\n# syntax=no directive\nFROM a", "#\n#\nFROM a\n"),
        # What Go's unicode.IsSpace takes for a space is one to the builder.
        *(
            (f"#{space}syntax=evil/x\nFROM a", "#\nFROM a\n")
            for space in "\v\f\x85\xa0\u2003\u3000"
        ),
        ("# escape=`\n#\xa0syntax=evil/x\nFROM a", "# escape=`\n#\nFROM a\n"),
    ],
)
def test_dockerfile_chooses_no_other_builder(text: str, made: str) -> None:
    assert own(text, "").dockerfile == made


def test_given_start_replaces_the_images_own() -> None:
    made = own("FROM a\nENTRYPOINT b", 'run "$PORT"').dockerfile
    assert made.endswith('\nENTRYPOINT []\nCMD ["/bin/sh","-c","run \\"$PORT\\""]\n')
