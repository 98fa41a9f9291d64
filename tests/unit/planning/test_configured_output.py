"""Output directories that configuration files name: only ones below the app are taken."""

import json

import msgspec
import pytest

from moorage.errors import PlanNotFound
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING

PACKAGE = '{"scripts": {"build": "ng build"}, "dependencies": {"@angular/core": "19"}}'


def files(pages: str) -> dict[str, str]:
    output = {"base": "dist/shop", "browser": pages}
    build = {"builder": "@angular/build:application", "options": {"outputPath": output}}
    angular = {"projects": {"shop": {"architect": {"build": build}}}}
    return {"package.json": PACKAGE, "angular.json": json.dumps(angular)}


def test_pages_that_angular_builds_are_served() -> None:
    made = make_plan(MemoryTree(files("pages")), Settings(), EVERYTHING)
    assert made.start.startswith("cd ./dist/shop/pages && ")
    assert msgspec.msgpack.encode(made)


@pytest.mark.parametrize("pages", ["../../../etc", "\ud800", "a; b"])
def test_pages_elsewhere_or_of_odd_names_are_not(pages: str) -> None:
    with pytest.raises(PlanNotFound):
        make_plan(MemoryTree(files(pages)), Settings(), EVERYTHING)
