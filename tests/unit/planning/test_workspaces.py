"""Which package of a monorepo is the app, and what is built before it."""

import json
from typing import Any

import pytest

from moorage.errors import PlanNotFound
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

Packages = dict[str, dict[str, Any]]
SERVER = {"scripts": {"start": "node a.js"}}


def plan(packages: Packages, files: dict[str, str], directory: str = "") -> Plan:
    tree = {f"{place}package.json": json.dumps(text) for place, text in packages.items()}
    settings = Settings(directory_path=directory or None)
    return make_plan(MemoryTree({**tree, **files}), settings, TOOLBOX)


@pytest.mark.parametrize(
    "patterns",
    [
        ["apps/web"],
        ["apps/*"],
        ["*/*"],
        ["**"],
        ["apps/**"],
        ["./apps/*/"],
        {"packages": ["apps/*"]},
    ],
)
def test_workspaces_are_found_by_globs(patterns: Any) -> None:
    made = plan({"": {"workspaces": patterns}, "apps/web/": SERVER, "other/": {}}, {})
    assert made.directory == "apps/web"


@pytest.mark.parametrize(
    "yaml",
    [
        "packages:\n  - 'apps/*'\n",
        'packages:\n- "apps/*" # all\n\ncatalog:\n  - x\n',
        "packages: ['apps/*']\n",
        "# first\npackages:\n  - apps/*\n  - '!apps/old'\n",
    ],
)
def test_workspaces_are_found_in_pnpms_own_file(yaml: str) -> None:
    packages: Packages = {"": {}, "apps/web/": SERVER}
    if "!" in yaml:
        packages["apps/old/"] = SERVER
    assert plan(packages, {"pnpm-workspace.yaml": yaml}).directory == "apps/web"


def test_several_apps_are_named_and_one_is_asked_for() -> None:
    packages: Packages = {"": {"workspaces": ["apps/*"]}, "apps/api/": SERVER, "apps/web/": SERVER}
    with pytest.raises(PlanNotFound, match=r"apps/api, apps/web.*settings\.directoryPath"):
        plan(packages, {})
    made = plan(packages, {"yarn.lock": ""}, "apps/api")
    assert made.directory == "apps/api"
    assert made.install == (
        "cd ../.. && yarn install --non-interactive --no-progress --frozen-lockfile"
    )


def test_libraries_are_built_first_each_after_what_it_needs() -> None:
    def built(name: str, *needs: str) -> dict[str, Any]:
        dependencies = dict.fromkeys(needs, "workspace:*")
        return {"name": name, "scripts": {"build": "x"}, "dependencies": dependencies}

    packages: Packages = {
        "": {"workspaces": ["packages/*", "web"]},
        "packages/a/": built("a", "b", "c"),
        "packages/b/": built("b", "c", "a"),  # a circle is gone round once
        "packages/c/": built("c"),
        "packages/unused/": built("unused"),
        "web/": {**built("web", "a"), "scripts": {"build": "y", "start": "node s.js"}},
    }
    made = plan(packages, {"package-lock.json": "{}"})
    assert made.build == (
        "(cd ../packages/c && npm run build) && (cd ../packages/b && npm run build) && "
        "(cd ../packages/a && npm run build) && npm run build"
    )


def test_all_manifests_and_the_lock_decide_the_install() -> None:
    packages: Packages = {"": {"workspaces": ["apps/*"]}, "apps/web/": SERVER, "apps/lib/": {}}
    made = plan(packages, {"package-lock.json": "{}", ".npmrc": "", "apps/web/a.js": ""})
    assert made.install_inputs == (
        ".npmrc", "apps/lib/package.json", "apps/web/package.json", "package-lock.json",
        "package.json",
    )  # fmt: skip


@pytest.mark.parametrize(
    "manifest",
    [
        {
            "scripts": {"start": "node a.js", "postinstall": "node make.js"},
            "dependencies": {"a": "1"},
        },
        {**SERVER, "dependencies": {"a": "file:./a"}},
    ],
)
def test_install_that_reads_other_files_has_no_inputs(manifest: dict[str, Any]) -> None:
    assert plan({"": manifest}, {"package-lock.json": "{}"}).install_inputs == ()


def test_hostile_globs_are_matched_in_bounded_time() -> None:
    # Nothing is measured: a matcher that tries every way takes longer than the universe is old.
    deep = "a/" * 60
    packages: Packages = {"": {"workspaces": ["**/a/" * 60 + "b"], **SERVER}, deep: SERVER}
    assert plan(packages, {}).directory == ""
