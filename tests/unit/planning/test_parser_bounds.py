"""Each parser of the planner at its worst: twice the input is about twice the work, not four times.

Work is counted in calls and lines of Python, not in time. What a regular expression does inside of
one call is shown with processes that end when it is too much: `contract/test_parsers.py`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import pytest

from moorage.errors import MoorageError, UploadInvalid
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import KEY_PARTS_LIMIT, toml_document
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

Files = Mapping[str, bytes | str]


def steps(files: Files) -> int:
    """The calls and lines that a plan takes, or its refusal."""
    tree, count = MemoryTree(files), 0

    def trace(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make_plan(tree, Settings(), TOOLBOX)
    except MoorageError:
        pass
    finally:
        sys.settrace(before)
    return count


def packages(count: int, directory: str = "p") -> dict[str, str]:
    return {f"{directory}{number}/package.json": "{}" for number in range(count)}


def root(*patterns: str) -> dict[str, str]:
    return {"package.json": json.dumps({"workspaces": patterns})}


GROWING: dict[str, Callable[[int], Files]] = {
    "keys of many parts": lambda n: {
        "Cargo.toml": "\n".join(f"b{k}." + ".".join("a" * 150) + "=1" for k in range(n))
    },
    "members of a workspace": lambda n: {
        "Cargo.toml": "[workspace]",
        **{f"m{k}/Cargo.toml": ".".join("a" * 150) + "=1" for k in range(n)},
    },
    "parts of a glob": lambda n: {**root("/".join("a" * (n * 4))), **packages(30)},
    "any depth again and again": lambda n: {
        **root("/".join(["**", "*"] * n)),
        **packages(30, "a/" * 12),
    },
    "patterns": lambda n: {**root(*(f"x{k}/**/*" for k in range(n))), **packages(30)},
    "packages": lambda n: {**root("**/*"), **packages(n)},
    "lines of YAML": lambda n: {
        "package.json": "{}",
        "pnpm-workspace.yaml": "packages:\n" + "- a\n" * n,
    },
    "requirements": lambda n: {"requirements.txt": "a[b]\n" * n},
    "comments of JSON": lambda n: {"deno.json": "/*a" * n},
}


@pytest.mark.parametrize("name", GROWING)
def test_twice_the_input_is_twice_the_work(name: str) -> None:
    make = GROWING[name]
    steps(make(20))  # loads and compiles what is loaded once
    once, twice = steps(make(20)), steps(make(40))
    assert twice < 2.6 * once


@pytest.mark.parametrize("parts", ["a", "**", "*"])
def test_long_pattern_of_workspaces_takes_few_steps(parts: str) -> None:
    assert steps({**root("/".join([parts] * 20_000)), **packages(50)}) < 50_000


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 32_000) + " = 1",
        "[" + ".".join(["a"] * 32_000) + "]",
        "x = {" + ".".join(["a"] * 30_000) + " = 1}",
        ".".join(['"="'] * 15_000) + " = 1",
        ".".join(["'='"] * 15_000) + " = 1",
        'x = {a = """\n""", ' + ".".join(['"="'] * 15_000) + " = 1}",
        'x = {a = """"b"""", ' + ".".join(['"="'] * 15_000) + " = 1}",
        "x = {a = '''\n''', " + ".".join(["'='"] * 15_000) + " = 1}",
        '# "\n' + ".".join(['"\\"="'] * 10_000) + " = 1",
    ],
    ids=lambda text: text[:24],
)
def test_keys_of_many_parts_are_refused_however_they_are_written(text: str) -> None:
    with pytest.raises(UploadInvalid, match=f"more than {KEY_PARTS_LIMIT} parts") as refused:
        toml_document(Folder(MemoryTree({"Cargo.toml": text})), "Cargo.toml")
    assert refused.value.path == "Cargo.toml"


def test_dots_that_are_in_no_key_do_no_harm() -> None:
    dots = "1." * 400
    text = f'a = ["{dots}", \'{dots}\', """{dots}\n"""]  # {dots}\n# {dots}\nb.c = 1.5'
    found = toml_document(Folder(MemoryTree({"Cargo.toml": text})), "Cargo.toml")
    assert found == {"a": [dots, dots, f"{dots}\n"], "b": {"c": 1.5}}


def test_globs_match_as_before_within_their_bounds() -> None:
    files = {
        **root("packages/**", "!packages/**/no", "x" * 300),
        "packages/a/package.json": '{"scripts":{"start":"node a.js"}}',
        "packages/a/no/package.json": '{"scripts":{"start":"node b.js"}}',
    }
    plan = make_plan(MemoryTree(files), Settings(), TOOLBOX)
    assert plan.directory == "packages/a"
