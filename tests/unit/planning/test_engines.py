"""The Node that an app's packages need, where the app itself asks for none."""

import json
from typing import Any

import pytest

from moorage.errors import RuntimeUnsupported
from moorage.planning.node.package_json import package_json
from moorage.planning.node.package_managers import LOCK_LIMIT, package_needs
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX


def package(dependencies: dict[str, str], **fields: Any) -> str:
    start = {"scripts": {"start": "node index.js"}}
    return json.dumps({**start, "dependencies": dependencies, **fields})


def npm_lock(engines: dict[str, object]) -> str:
    return json.dumps({"packages": {path: {"engines": it} for path, it in engines.items()}})


def plan(files: dict[str, str]) -> Plan:
    return make_plan(MemoryTree({"index.js": "", **files}), Settings(), TOOLBOX)


def needs(files: dict[str, str], directory: str = "") -> dict[str, str]:
    root = Folder(MemoryTree(files))
    manifest = package_json(root.below(directory) if directory else root)
    assert manifest is not None
    return {it.package: it.text for it in package_needs(root, manifest, directory=directory)}


def test_lock_file_tells_what_the_apps_own_packages_need() -> None:
    lock = npm_lock(
        {
            "": {"node": ">=30"},
            "node_modules/a": {"node": ">=22"},
            "node_modules/b": {"npm": ">=9"},
            "node_modules/c": ["node >= 0.10"],
            "node_modules/not-named": {"node": ">=99"},
        }
    )
    app = package({"a": "1", "b": "1", "c": "1", "absent": "1"})
    assert needs({"package.json": app, "package-lock.json": lock}) == {"a": ">=22"}


def test_workspaces_own_copy_of_a_package_goes_before_the_roots() -> None:
    lock = npm_lock({"node_modules/a": {"node": ">=18"}, "web/node_modules/a": {"node": ">=22"}})
    files = {"package-lock.json": lock, "web/package.json": package({"a": "1"})}
    assert needs(files, "web") == {"a": ">=22"}


@pytest.mark.parametrize(
    "key", ["'@it/a@2.1.0'", "/@it/a@2.1.0(b@1.0.0)", "/@it/a/2.1.0", "@it/a@2.1.0"]
)
def test_pnpms_lock_file_of_any_version_is_understood(key: str) -> None:
    entry = (
        f"  {key}:\n    resolution: {{integrity: x}}\n    engines: {{npm: '>=9', node: '>=22'}}\n"
    )
    other = "  '@it/ab@1.0.0':\n    engines: {node: '>=99'}\n"
    files = {
        "package.json": package({"@it/a": "2"}),
        "pnpm-lock.yaml": f"packages:\n\n{entry}{other}",
    }
    assert needs(files) == {"@it/a": ">=22"}


@pytest.mark.parametrize(
    "lock", ["{", "[]", '{"packages": []}', "x" * (LOCK_LIMIT + 1), "[" * 99_999]
)
def test_lock_file_that_cannot_be_read_tells_nothing(lock: str) -> None:
    assert needs({"package.json": package({"a": "1"}), "package-lock.json": lock}) == {}


@pytest.mark.parametrize(
    ("package_name", "asked", "is_newer"),
    [
        ("nuxt", "^4.1.0", True),  # the newest it allows is installed, which is not 4.1.0
        ("nuxt", "4.1.0", False),
        ("nuxt", "~4.1.0", False),
        ("nuxt", "^3.17.0", False),
        ("astro", "latest", True),
        ("astro", "next", False),
        ("astro", "^5.13.0", False),
        ("@angular/core", "^22.2.0", True),
    ],
)
def test_newest_version_that_is_allowed_decides_without_a_lock_file(
    package_name: str, asked: str, is_newer: bool
) -> None:
    made = plan({"package.json": package({package_name: asked})})
    assert ("node" in made.toolchains) == is_newer
    assert any(f"{package_name} needs Node" in said for said in made.because) == is_newer


def test_one_node_does_for_all_packages() -> None:
    lock = npm_lock({"node_modules/a": {"node": ">=22"}, "node_modules/b": {"node": "<24"}})
    files = {"package.json": package({"a": "1", "b": "1"}), "package-lock.json": lock}
    assert plan(files).toolchains["node"] == "22.23.3"


def test_what_the_app_asks_for_goes_before_what_its_packages_need() -> None:
    lock = npm_lock({"node_modules/a": {"node": ">=22"}})
    app = package({"a": "1"}, engines={"node": "20"})
    made = plan({"package.json": app, "package-lock.json": lock})
    assert "node" not in made.toolchains


def test_need_that_nothing_meets_is_said_and_refuses_nothing() -> None:
    lock = npm_lock({"node_modules/a": {"node": ">=99"}})
    made = plan({"package.json": package({"a": "1"}), "package-lock.json": lock})
    assert "node" not in made.toolchains
    assert "a needs Node >=99, which is not to be had here: node 20.20.2" in made.because


def test_lock_file_that_is_too_large_to_be_read_is_as_none() -> None:
    app = package({"astro": "^6.1.0"})
    files = {"package.json": app, "package-lock.json": "{}" + " " * LOCK_LIMIT}
    assert needs(files) == {"astro": ">=22.12.0"}


def test_hostile_lock_file_of_pnpm_takes_bounded_time() -> None:
    lock = ("  a@1:\n" * 100_000 + "    x\n" * 100_000) * 4
    # Nothing is measured: one that tries each entry to the end takes an hour.
    assert needs({"package.json": package({"a": "1"}), "pnpm-lock.yaml": lock}) == {}


FLOORS = [
    ({"next": "^16.0.0"}, "18", "next needs Node >=20.9.0"),
    ({"next": "16.0.1"}, "v20.5.0", "next needs Node >=20.9.0"),
    ({"vite": "^7.1.0"}, "18.20.8", "vite needs Node ^20.19.0 || >=22.12.0"),
    ({"vite": "latest"}, "20.11.1", "vite needs Node ^20.19.0 || >=22.12.0"),
    ({"@angular/core": "^20.3.0"}, "lts/hydrogen", "@angular/core needs Node ^20.19.0 || "),
    ({"astro": "^5.13.0"}, "16", "astro needs Node 18.20.8 || ^20.3.0 || >=22.0.0"),
    ({"nuxt": "~4.1.0"}, "18", "nuxt needs Node ^20.19.0 || >=22.12.0"),
    ({"@nestjs/cli": "^11.0.0"}, "18", "@nestjs/cli needs Node >=20.11"),
]


@pytest.mark.parametrize(("dependencies", "asked", "said"), FLOORS)
@pytest.mark.parametrize("place", [".nvmrc", ".node-version", "engines"])
def test_what_a_framework_refuses_to_build_on_goes_before_the_apps_own_request(
    dependencies: dict[str, str], asked: str, said: str, place: str
) -> None:
    if place == "engines":
        asked = {"lts/hydrogen": "18.x"}.get(asked, asked)
        files = {"package.json": package(dependencies, engines={"node": asked})}
    else:
        files = {"package.json": package(dependencies), place: f"{asked}\n"}
    made = plan(files)
    assert made.host_tools["node"] == "20.20.2"
    assert any("asks for " in it and f", but {said}" in it for it in made.because)


def test_floor_in_a_lock_file_goes_before_the_apps_own_request() -> None:
    lock = npm_lock({"node_modules/vite": {"node": "^20.19.0 || >=22.12.0"}})
    files = {"package.json": package({"vite": "*"}), "package-lock.json": lock, ".nvmrc": "18"}
    assert plan(files).host_tools["node"] == "20.20.2"


@pytest.mark.parametrize(
    ("engines", "node"), [(">=18", "26.10.0"), ("^20 || ^22", "22.23.3"), ("24.x", "24.14.0")]
)
def test_framework_decides_among_what_the_app_allows(engines: str, node: str) -> None:
    app = package({"astro": "^6.1.0"}, engines={"node": engines})
    assert plan({"package.json": app}).toolchains["node"] == node


def test_runtime_that_a_framework_refuses_is_refused_before_payment() -> None:
    tree = MemoryTree({"index.js": "", "package.json": package({"next": "^16.0.0"})})
    with pytest.raises(RuntimeUnsupported, match=r"next needs Node >=20\.9\.0: leave "):
        make_plan(tree, Settings(runtime="node:18"), TOOLBOX)
    assert make_plan(tree, Settings(runtime="node:22"), TOOLBOX).toolchains["node"] == "22.23.3"


def test_framework_that_no_node_here_will_do_for_is_refused_before_payment() -> None:
    tree = MemoryTree({"index.js": "", "package.json": package({"astro": "^6.1.0"})})
    only = Toolbox(host={"node": ("20.20.2",), "npm": ("11.19.1",)})
    with pytest.raises(RuntimeUnsupported, match=r"astro needs Node >=22\.12\.0, but this"):
        make_plan(tree, Settings(), only)
