"""Which versions an app gets, of what a toolbox has."""

import json
from typing import Any

import msgspec
import pytest

from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

OFFLINE = Toolbox(host=TOOLBOX.host)
START = {"scripts": {"start": "node a.js"}}
SCRIPT = {"main.py": "print(1)"}


def plan(files: dict[str, str], toolbox: Toolbox = TOOLBOX, **settings: Any) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), toolbox)


def node(files: dict[str, str] | None = None, **manifest: Any) -> dict[str, str]:
    return {"package.json": json.dumps({**START, **manifest}), **(files or {})}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (node(), {}),
        (node(engines={"node": ">=18"}), {}),  # the machine's own does
        (node(engines={"node": "22.x"}), {"node": "22.23.3"}),
        (node(engines={"node": ">=21"}), {"node": "26.10.0"}),
        (node(engines={"node": ">=21 <24"}), {"node": "22.23.3"}),  # 23 is maintained for months
        (node({".nvmrc": "v22.23.3\n"}), {"node": "22.23.3"}),
        (node({".nvmrc": "lts/jod"}), {"node": "22.23.3"}),
        (node({".node-version": "20.11.1"}), {"node": "20.11.1"}),
        (node({".nvmrc": "lts/*"}), {}),
        (node({".nvmrc": "22"}, engines={"node": "24"}), {"node": "22.23.3"}),
    ],
)
def test_node_is_what_the_files_ask_for(files: dict[str, str], expected: dict[str, str]) -> None:
    made = plan(files).toolchains
    assert {name: made[name] for name in made if name == "node"} == expected


def test_node_that_is_too_old_for_the_machines_npm_comes_with_its_own() -> None:
    made = plan(node(engines={"node": "18"}))
    assert made.toolchains == {"node": "18.20.8", "npm": "10.9.4"}


def test_pin_that_is_not_to_be_had_gets_the_nearest_and_says_so() -> None:
    made = plan(node({".nvmrc": "20.11.0"}))
    assert made.toolchains == {"node": "20.11.1"}
    assert any("nearest is node 20.11.1" in sentence for sentence in made.because)


def test_pin_never_leads_past_what_the_machine_has_without_a_network() -> None:
    assert plan(node({".nvmrc": "22"}), OFFLINE).toolchains == {}


UNMET = {**SCRIPT, "pyproject.toml": "[project]\nrequires-python = '>=3.14'"}


@pytest.mark.parametrize(
    ("files", "settings", "field"),
    [
        (node(engines={"node": "99"}), {}, "package.json's engines.node"),
        (node(), {"runtime": "node:99"}, "settings.runtime"),
        (node({"pnpm-lock.yaml": "lockfileVersion: 5.4"}, engines={"pnpm": "5"}), {}, None),
        (SCRIPT, {"runtime": "python:3.9"}, "settings.runtime"),
        ({**SCRIPT, "runtime.txt": "python-2.7.18"}, {}, "runtime.txt"),
        (
            {**SCRIPT, "pyproject.toml": "[project]\nrequires-python = '==3.12.*'"},
            {},
            "pyproject.toml's requires-python",
        ),
        ({**UNMET, ".python-version": "3.14"}, {}, "pyproject.toml's requires-python"),
        ({**UNMET, "uv.lock": ""}, {"runtime": "python:3.13"}, "settings.runtime"),
    ],
)
def test_version_that_nothing_satisfies_is_refused_by_name(
    files: dict[str, str], settings: dict[str, Any], field: str | None
) -> None:
    if field is None:
        assert plan(files, **settings).toolchains == {"pnpm": "7.33.7"}
        return
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(files, **settings)
    assert refused.value.field == field


def test_given_install_needs_no_package_manager_of_the_files() -> None:
    made = plan(node({"pnpm-lock.yaml": ""}), OFFLINE, installCommand="./install.sh")
    assert (made.install, made.toolchains) == ("./install.sh", {})


@pytest.mark.parametrize(
    ("lock", "manifest", "expected"),
    [
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}, {}, {"pnpm": "10.33.0"}),
        ({"pnpm-lock.yaml": "lockfileVersion: '6.0'\n"}, {}, {"pnpm": "8.15.9"}),
        ({"pnpm-lock.yaml": "lockfileVersion: 5.4\n"}, {}, {"pnpm": "7.33.7"}),
        ({}, {"packageManager": "pnpm@9.15.0+sha512.abc"}, {"pnpm": "9.15.0"}),
        ({}, {"packageManager": "pnpm@9.14.2"}, {"pnpm": "9.15.0"}),
        # engines win, and the lock file decides among what they allow
        (
            {"pnpm-lock.yaml": "lockfileVersion: '9.0'"},
            {"engines": {"pnpm": "9"}},
            {"pnpm": "9.15.9"},
        ),
        (
            {"pnpm-lock.yaml": "lockfileVersion: '9.0'"},
            {"engines": {"pnpm": ">=9"}},
            {"pnpm": "10.33.0"},
        ),
        (
            {"pnpm-lock.yaml": "lockfileVersion: '6.0'"},
            {"engines": {"pnpm": "9"}},
            {"pnpm": "9.15.9"},
        ),
        (
            {},
            {"packageManager": "pnpm@11.21.2"},  # which needs a newer Node than the machine has
            {"node": "26.10.0", "pnpm": "11.21.2"},
        ),
        ({"yarn.lock": "# yarn lockfile v1\n"}, {}, {"yarn": "1.22.22"}),
        ({"yarn.lock": "__metadata:\n  version: 8\n"}, {}, {"yarn": "4.18.1"}),
        ({"yarn.lock": "__metadata:\n  version: 6\n"}, {}, {"yarn": "3.8.7"}),
        ({".yarnrc.yml": "yarnPath: .yarn/releases/yarn-4.9.2.cjs"}, {}, {"yarn": "4.9.2"}),
        ({}, {"packageManager": "yarn@1.22.19"}, {"yarn": "1.22.19"}),
        ({"bun.lock": "{}"}, {}, {"bun": "1.4.5"}),
        ({}, {"engines": {"bun": "1.2"}}, {"bun": "1.2.23"}),
        ({}, {"packageManager": "npm@10.9.4"}, {"npm": "10.9.4"}),
    ],
)
def test_package_manager_is_that_of_the_files(
    lock: dict[str, str], manifest: dict[str, Any], expected: dict[str, str]
) -> None:
    assert plan(node(lock, **manifest)).toolchains == expected


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({}, "python3.13"),
        ({".python-version": "3.11.7\n"}, "python3.11"),
        ({".python-version": "3.12"}, "python3.13"),  # the nearest, later ones first
        ({"runtime.txt": "python-3.11.9"}, "python3.11"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.9,<3.12'"}, "python3.11"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\npython = '~3.11'"}, "python3.11"),
        ({"Pipfile": "[requires]\npython_version = '3.11'"}, "python3.11"),
    ],
)
def test_python_is_what_the_files_ask_for(files: dict[str, str], python: str) -> None:
    made = plan({"main.py": "print(1)", **files}).install or ""
    start = plan({"main.py": "print(1)", **files}).start
    assert python in start + made


@pytest.mark.parametrize(
    ("runtime", "files", "expected"),
    [
        ("node:22", node(), {"node": "22.23.3"}),
        ("node:20-alpine", node(), {}),
        ("bun:1.2", {"index.ts": "Bun.serve({})"}, {"bun": "1.2.23"}),
        ("deno", {"main.ts": "Deno.serve(() => {})"}, {"deno": "2.9.6"}),
        ("rust:1.75", {"Cargo.toml": "[package]\nname = 'a'", "src/main.rs": ""}, None),
    ],
)
def test_runtime_of_the_settings_goes_first(
    runtime: str, files: dict[str, str], expected: dict[str, str] | None
) -> None:
    if expected is None:
        with pytest.raises(RuntimeUnsupported, match=r"rust 1\.75 is asked for"):
            plan(files, runtime=runtime)
    else:
        assert plan(files, runtime=runtime).toolchains == expected
