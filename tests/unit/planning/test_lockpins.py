"""What other tools' lock files come to, as requirements that uv reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.planning.python import lockpins

HASH = "sha256:" + "a" * 64
FILES = f'files = [{{file = "a.whl", hash = "{HASH}"}}]'


def pins(directory: Path, **files: str) -> list[str]:
    """The lines for the first file; `__` stands for the dot in a name."""
    paths = [directory / name.replace("__", ".") for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return sorted(lockpins.pins(paths[0]))


def test_poetry_pins_its_main_group_with_markers_and_hashes(tmp_path: Path) -> None:
    lock = f"""
        [[package]]
        name = "flask"
        version = "3.1.0"
        optional = false
        groups = ["main", "dev"]
        markers = {{main = "python_version >= \\"3.11\\"", dev = "extra == \\"x\\""}}
        {FILES}
        [[package]]
        name = "pytest"
        version = "8"
        groups = ["dev"]
        {FILES}
        [[package]]
        name = "extra"
        version = "1"
        optional = true
        groups = ["main"]
        {FILES}
        [[package]]
        name = "own"
        version = "2"
        groups = ["main"]
        files = []
        [package.source]
        type = "git"
        url = "https://git.example/own.git"
        resolved_reference = "abc"
    """
    assert pins(tmp_path, poetry__lock=lock) == [
        f'flask==3.1.0 ; python_version >= "3.11" --hash={HASH}',
        "own @ git+https://git.example/own.git@abc",
    ]


def test_older_poetry_locks_are_followed_from_the_main_dependencies(tmp_path: Path) -> None:
    lock = """
        [[package]]
        name = "Click"
        version = "8"
        [package.dependencies]
        colorama = {version = "*", markers = "platform_system == \\"Windows\\""}
        [[package]]
        name = "colorama"
        version = "0.4"
        [[package]]
        name = "pytest"
        version = "8"
    """
    project = '[tool.poetry.dependencies]\npython = "^3.11"\nclick = "*"'
    assert pins(tmp_path, poetry__lock=lock, pyproject__toml=project) == [
        "Click==8",
        'colorama==0.4 ; (platform_system == "Windows")',
    ]


def test_pdm_pins_its_default_group_once_a_package(tmp_path: Path) -> None:
    lock = f"""
        [[package]]
        name = "fastapi"
        version = "1"
        extras = ["standard"]
        groups = ["default"]
        marker = "python_version < \\"4\\""
        {FILES}
        [[package]]
        name = "fastapi"
        version = "1"
        groups = ["default"]
        [[package]]
        name = "ruff"
        version = "1"
        groups = ["lint"]
    """
    assert pins(tmp_path, pdm__lock=lock) == [f'fastapi==1 ; python_version < "4" --hash={HASH}']


def test_older_pdm_locks_are_followed_from_the_projects_dependencies(tmp_path: Path) -> None:
    lock = """
        [metadata]
        groups = ["default", "lint"]
        lock_version = "4.4"
        [[package]]
        name = "Click"
        version = "8"
        dependencies = ["colorama; platform_system == \\"Windows\\"", "typing_extensions>=4"]
        [[package]]
        name = "colorama"
        version = "0.4"
        [[package]]
        name = "typing-extensions"
        version = "4"
        [[package]]
        name = "ruff"
        version = "1"
    """
    project = '[project]\ndependencies = ["click[x]>=7"]'
    assert pins(tmp_path, pdm__lock=lock, pyproject__toml=project) == [
        "Click==8",
        "typing-extensions==4",
    ]


def test_pipenv_pins_its_default_packages(tmp_path: Path) -> None:
    flask = {"version": "==3.1", "hashes": [HASH], "markers": "os_name"}
    own = {"git": "https://git.example/o.git", "ref": "abc"}
    lock = json.dumps({"default": {"flask": flask, "own": own}, "develop": {"x": {}}})
    assert pins(tmp_path, Pipfile__lock=lock) == [
        f"flask==3.1 ; os_name --hash={HASH}",
        "own @ git+https://git.example/o.git@abc",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),  # Poetry's documentation of dependency specification has these
    [
        ('"^1.2.3"', "a>=1.2.3,<2"),
        ('"^0.2.3"', "a>=0.2.3,<0.3"),
        ('"^0.0.3"', "a>=0.0.3,<0.0.4"),
        ('"^0"', "a>=0,<1"),
        ('"~1.2.3"', "a>=1.2.3,<1.3"),
        ('"~1"', "a>=1,<2"),
        ('"*"', "a"),
        ('"1.2.*"', "a==1.2.*"),
        ('"1.2.3"', "a==1.2.3"),
        ('">=1,<3"', "a>=1,<3"),
        ('{version = "^2", extras = ["x", "y"]}', "a[x,y]>=2,<3"),
    ],
)
def test_poetrys_own_versions_become_pep_440(tmp_path: Path, written: str, expected: str) -> None:
    project = f"[tool.poetry.dependencies]\npython = '^3.11'\na = {written}"
    assert pins(tmp_path, pyproject__toml=project) == [expected]


def test_it_runs_by_itself_as_builds_run_it(tmp_path: Path) -> None:
    (tmp_path / "Pipfile").write_text('[packages]\nflask = "*"\n[dev-packages]\npytest = "*"\n')
    said = subprocess.run(
        [sys.executable, "-I", lockpins.__file__, "Pipfile"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "flask\n"
