"""How Python apps are started whose files have no well-known name."""

import pytest

from memory_tree import MemoryTree
from moorage.errors import PlanNotFound
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from toolboxes import TOOLBOX

CLI = {"shop/cli.py": "def main(): ...\n", "shop/__init__.py": ""}
CALL = "'import sys; from shop.cli import main; sys.exit(main())'"


def plan(files: dict[str, str]) -> Plan:
    return make_plan(MemoryTree(files), Settings(), TOOLBOX)


def project(scripts: str, name: str = '"shop"') -> dict[str, str]:
    return {"pyproject.toml": f"[project]\nname = {name}\n[project.scripts]\n{scripts}\n"}


@pytest.mark.parametrize(
    "scripts",
    ['shop = "shop.cli:main"', 'serve = "shop.cli:main"', 'a = "x:y"\nshop = "shop.cli:main"'],
)
def test_command_of_the_projects_name_or_the_only_one_is_called(scripts: str) -> None:
    made = plan({**project(scripts), **CLI})
    assert made.start == f"exec python3.13 -c {CALL}"
    assert "PYTHONPATH" not in made.run_env


def test_command_is_called_where_its_source_lies() -> None:
    files = {f"api/src/{name}": text for name, text in CLI.items()}
    pyproject = {f"api/{name}": text for name, text in project('a = "shop.cli:main"').items()}
    made = plan({**files, **pyproject})
    assert made.run_env["PYTHONPATH"] == "/app/api/src"


@pytest.mark.parametrize(
    ("scripts", "name"),
    [
        ('a = "shop.cli:main"\nb = "shop.cli:main"', '"shop"'),
        ('a = "gone.cli:main"', '"shop"'),
        ('a = "shop.cli:main; import os"', '"shop"'),
        ("a = 5", '"shop"'),
        ("a = ['shop.cli:main']\nb = 1", "['shop']"),
    ],
)
def test_commands_that_say_nothing_certain_start_nothing(scripts: str, name: str) -> None:
    with pytest.raises(PlanNotFound):
        plan({**project(scripts, name), **CLI})


def test_file_that_sets_a_project_up_is_no_app() -> None:
    with pytest.raises(PlanNotFound):
        plan({"requirements.txt": "aiohttp", "setup.py": ""})
    assert plan({"setup.py": "", "web.py": ""}).start == "exec python3.13 ./web.py"


def test_likely_names_go_before_pages_that_set_themselves_up() -> None:
    page = "import streamlit as st\nst.title('x')\n"
    plain = "import streamlit as st\n"
    needs = {"requirements.txt": "streamlit"}
    assert " run app.py " in plan({**needs, "app.py": plain, "about.py": page}).start
    assert " run sales.py " in plan({**needs, "charts.py": plain, "sales.py": page}).start
