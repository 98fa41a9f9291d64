"""Refusals of uploads: what is there, by name, and one step."""

import msgspec
import pytest

from moorage.errors import InvalidRequest, PlanNotFound, RuntimeUnsupported
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING, TOOLBOX

LENGTH = 300


def refusal(files: list[str] | dict[str, str], toolbox: Toolbox = EVERYTHING) -> str:
    tree = MemoryTree(files if isinstance(files, dict) else dict.fromkeys(files, ""))
    with pytest.raises(InvalidRequest) as refused:
        make_plan(tree, Settings(), toolbox)
    return refused.value.message


@pytest.mark.parametrize(
    ("files", "names", "step"),
    [
        (["Shop.csproj", "Program.cs"], "Shop.csproj", "A gateway with Docker takes it"),
        (["src/Shop/Shop.fsproj", "README.md"], "src/Shop/Shop.fsproj", "A gateway with Docker"),
        (["mix.exs"], "mix.exs", "A gateway with Docker takes it"),
        (["Package.swift", "Sources/App/main.swift"], "Package.swift", "A gateway with Docker"),
        (["antora-playbook.yml", "docs/a.adoc"], "antora-playbook.yml", "send build/site/"),
        (["book.toml", "src/a.md"], "book.toml", "send book/"),
        (["analysis.ipynb"], "analysis.ipynb", ".py file"),
        (["App.tsx", "styles.css"], "App.tsx", "package.json"),
        (
            {"Dockerfile": 'FROM python:3.13-slim\nCMD ["python", "x.py"]\n', "x.rs": ""},
            "Dockerfile",
            "settings.hasDockerfile: true",
        ),
        ({"Dockerfile": "FROM n8nio/n8n\n", "x.rs": ""}, "Dockerfile", "a gateway with Docker"),
        (["notes.md"], "notes.md", "settings.runCommand"),
        (["wrangler.toml", "worker.js"], "wrangler.toml", "package.json with a start script"),
        (["site.zip"], "site.zip", "files that are in it"),
    ],
)
def test_refusal_names_what_is_there_and_one_step(
    files: list[str] | dict[str, str], names: str, step: str
) -> None:
    said = refusal(files)
    assert said.startswith("No app was found: the upload has ")
    assert names in said
    assert step in said
    assert len(said) <= LENGTH


def test_refusal_is_short_whatever_the_names() -> None:
    files = [f"{number}{'x' * 200}.csproj" for number in range(500)]
    files += [f"{number}{'y' * 200}/a.txt" for number in range(500)]
    assert len(refusal(files)) <= LENGTH
    assert "and 996 more" in refusal(files)


@pytest.mark.parametrize("how", [Dockerfiles.BUILT, Dockerfiles.ROOTLESS])
def test_gateway_that_builds_dockerfiles_asks_for_one(how: Dockerfiles) -> None:
    builds = msgspec.structs.replace(TOOLBOX, dockerfiles=how)
    said = refusal(["mix.exs"], builds)
    assert said.endswith("Add a Dockerfile, and set settings.hasDockerfile: true.")
    assert refusal(["index.php"], builds).endswith("and set settings.hasDockerfile: true.")


@pytest.mark.parametrize(
    ("file", "asks", "has"),
    [
        ("Gemfile", "ruby '3.9.2'", "ruby 3.3.8"),
        ("Gemfile", "ruby '~> 3.4.0'", "ruby 3.3.8"),
        ("composer.json", '{"require": {"php": "^8.5"}}', "php 8.4.16"),
        ("go.mod", "module x\n\ngo 1.99\n", "go 1.24"),
        ("package.json", '{"engines": {"node": ">=20.99 <21"}, "scripts": {"start": "node x"}}',
         "node 18, 20.11.1, 20.20.2, 22"),
    ],
)  # fmt: skip
def test_versions_that_are_near_are_said_in_full(file: str, asks: str, has: str) -> None:
    beside = {
        "Gemfile": {"config.ru": ""},
        "composer.json": {"index.php": "<?php"},
        "go.mod": {"main.go": "package main\n"},
    }
    said = refusal({file: asks, **beside.get(file, {})})
    assert f"but this gateway has {has}" in said
    assert said.endswith("ask for one that it has")


def test_language_that_is_lacking_is_another_gateways() -> None:
    tree = MemoryTree({"index.php": "<?php"})
    with pytest.raises(RuntimeUnsupported, match="A gateway with Docker takes it"):
        make_plan(tree, Settings(), TOOLBOX)


def test_what_was_looked_for_is_told_to_programs() -> None:
    with pytest.raises(PlanNotFound) as refused:
        make_plan(MemoryTree({"a.md": ""}), Settings(), EVERYTHING)
    assert any("requirements.txt" in item for item in refused.value.looked_for)
