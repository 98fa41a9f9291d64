from typing import Any

import msgspec
import pytest

from moorage.errors import InvalidField, PlanNotFound, RuntimeUnsupported
from moorage.planning.explicit import environment
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

SITE = {"index.html": "<p>hi", "docs/guide/index.html": "<p>guide"}


def plan(files: dict[str, str] | None = None, **settings: Any) -> Plan:
    return make_plan(MemoryTree(files or SITE), msgspec.convert(settings, Settings), TOOLBOX)


@pytest.mark.parametrize("path", [None, "", "/", ".", "./", "//", "/./"])
def test_root_is_spelled_in_many_ways(path: str | None) -> None:
    assert plan(directoryPath=path).directory == ""


@pytest.mark.parametrize("path", ["docs/guide", "./docs/guide/", "/docs//guide", "docs/./guide"])
def test_directory_path_is_normalised(path: str) -> None:
    assert plan(directoryPath=path).directory == "docs/guide"


@pytest.mark.parametrize("field", ["directoryPath", "buildDir"])
@pytest.mark.parametrize(
    "path", ["..", "docs/../..", "/../etc", "a\\..\\b", "a\0b", "x" * 1025, "\ud800"]
)
def test_directories_cannot_leave_the_upload(field: str, path: str) -> None:
    attribute = {"directoryPath": "directory_path", "buildDir": "build_dir"}[field]
    settings = msgspec.structs.replace(Settings(), **{attribute: path})
    with pytest.raises(InvalidField) as refused:
        make_plan(MemoryTree(SITE), settings, TOOLBOX)
    assert refused.value.field == f"settings.{field}"


@pytest.mark.parametrize("path", ["doc", "docs/guid", "index.html", "docs/guide/index.html"])
def test_directory_path_must_be_a_directory_of_the_upload(path: str) -> None:
    with pytest.raises(InvalidField) as refused:
        plan(directoryPath=path)
    assert refused.value.field == "settings.directoryPath"


@pytest.mark.parametrize("field", ["installCommand", "buildCommand", "runCommand"])
@pytest.mark.parametrize("command", ["x" * 4097, "echo a\0b", "echo \ud800"])
def test_command_is_bounded_text(field: str, command: str) -> None:
    attribute = field.replace("Command", "_command")
    with pytest.raises(InvalidField) as refused:
        make_plan(
            MemoryTree(SITE), msgspec.structs.replace(Settings(), **{attribute: command}), TOOLBOX
        )
    assert refused.value.field == f"settings.{field}"


def test_command_of_4096_characters_with_newlines_passes() -> None:
    command = "a\n" * 2047 + "bb"
    assert plan(runCommand=command).start == command


@pytest.mark.parametrize("command", ["", "  \n"])
def test_empty_run_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidField) as refused:
        plan(runCommand=command)
    assert refused.value.field == "settings.runCommand"


@pytest.mark.parametrize(
    "runtime", ["elixir:1.18", "node:", "node:20:1", "Node", "", "static\n", "node:20\n"]
)
def test_unknown_runtime_is_refused(runtime: str) -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(runtime=runtime)
    assert refused.value.field == "settings.runtime"


@pytest.mark.parametrize("runtime", ["build-ai", "static", "static:latest"])
def test_runtime_of_the_files_stack_passes(runtime: str) -> None:
    assert plan(runtime=runtime).stack is Stack.STATIC


def test_dockerfile_is_not_run_here() -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(hasDockerfile=True)
    assert refused.value.field == "settings.hasDockerfile"


@pytest.mark.parametrize("framework", [None, "", "express", "nextjs", "reactjs-spa", "FastAPI"])
def test_known_framework_is_only_a_hint(framework: str | None) -> None:
    assert plan(framework=framework).stack is Stack.STATIC


@pytest.mark.parametrize("field", ["runEnvs", "buildVars"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("1A", "x"), ("A-B", "x"), ("A=B", "x"), ("A\n", "x"), ("A", "a\0b")],
)
def test_variable_the_kernel_cannot_take_is_refused(field: str, name: str, value: str) -> None:
    with pytest.raises(InvalidField) as refused:
        plan(**{field: {name: value}})
    assert refused.value.field.startswith(f"settings.{field}")


def test_variables_are_bounded() -> None:
    with pytest.raises(InvalidField):
        plan(runEnvs={f"A{index}": "" for index in range(201)})
    with pytest.raises(InvalidField):
        plan(runEnvs={"A": "x" * 32_769})
    plan(runEnvs={f"A{index}": "" for index in range(200)})


def test_port_comes_from_settings_alone() -> None:
    assert environment("f", {"PORT": "8080", "A": "1"}, port=8080) == {"A": "1"}
    with pytest.raises(InvalidField) as refused:
        plan(port=3000, runEnvs={"PORT": "8080"})
    assert refused.value.field == "settings.runEnvs.PORT"


def test_what_the_deployer_sets_is_checked_but_no_part_of_the_plan() -> None:
    secret = {"API_KEY": "s3cret"}
    assert plan(runEnvs=secret, buildVars=secret) == plan()


def test_upload_in_one_directory_is_left_alone_where_a_command_was_given() -> None:
    files = {"repo/package.json": "{}", "repo/index.js": ""}
    assert plan(files).directory == "repo"
    assert plan(files, runCommand="node repo/index.js").directory == ""
    assert plan({**files, "README.md": "", "index.html": ""}).directory == ""


def test_only_directory_with_an_app_of_its_own_is_the_apps() -> None:
    files = {"api/package.json": "{}", "api/index.js": "", "notes/todo.md": "", "README.md": ""}
    assert plan(files).directory == "api"
    with pytest.raises(PlanNotFound, match=r"apps in api, shop: set settings\.directoryPath"):
        plan({**files, "shop/package.json": "{}"})


def test_modules_that_are_part_of_an_app_are_no_apps_of_their_own() -> None:
    files = {"api/main.py": "from fastapi import FastAPI\napp = FastAPI()", "web/index.html": ""}
    made = plan(files)
    assert (made.directory, made.stack) == ("", "python")
    package = {"app/__init__.py": "", "app/main.py": "from app.x import y", ".env": ""}
    made = plan({**package, "app/app.py": "from fastapi import FastAPI\napp = FastAPI()"})
    assert (made.directory, made.start.split()[-1]) == ("", "app.app:app")


def test_site_beside_functions_is_served_and_one_that_must_be_built_is_built() -> None:
    functions = {"functions/package.json": '{"main": "index.js"}', "functions/index.js": ""}
    made = plan({"public/index.html": "", **functions})
    assert (made.directory, made.stack) == ("", "static")
    vite = '{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}'
    made = plan({"site/index.html": "", "site/package.json": vite, "README.md": ""})
    assert (made.directory, made.stack) == ("site", "node")


def test_what_archivers_and_editors_leave_is_no_part_of_an_upload() -> None:
    files = {"repo/index.js": "", "__MACOSX/repo/._index.js": "", ".vscode/x.json": "", ".env": ""}
    assert plan(files).directory == "repo"


def test_skipped_install_of_a_python_app_makes_no_environment() -> None:
    files = {"main.py": "print('python')", "requirements.txt": "flask"}
    made = plan(files, installCommand="")
    assert (made.install, made.start) == (None, "exec python3.13 main.py")
