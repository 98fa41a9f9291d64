"""Which Pythons an app's packages have wheels for, by its lock file and by what is known."""

import tomllib
from importlib import resources

import msgspec
import pytest
from packaging.utils import canonicalize_name

from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.python.requirements import package_of
from moorage.planning.python.versions import companions, wheels
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX


def plan(files: dict[str, str], **settings: str) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), TOOLBOX)


def allowed(lock: str, *, file: str = "poetry.lock") -> list[int]:
    found = wheels(Folder(MemoryTree({file: lock})), modules={})
    return [minor for minor in range(9, 15) if found.allows(Version(3, minor, 0))]


ALL = [9, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("names", "minors"),
    [
        ((), ALL),
        (("a-1.0.tar.gz",), ALL),
        (("a-1.0-py3-none-any.whl",), ALL),
        (("a-1.0-cp311-cp311-manylinux2014_x86_64.whl",), [11]),
        (("a-1.0-cp311-cp311-musllinux_1_1_x86_64.manylinux2014_x86_64.whl",), [11]),
        (("a-1.0-1-cp311-cp311-linux_x86_64.whl", "a-1.0-cp312-cp312-linux_x86_64.whl"), [11, 12]),
        (("a-1.0-cp311-cp311-win_amd64.whl",), ALL),
        (("a-1.0-cp313-cp313t-manylinux2014_x86_64.whl",), ALL),
        (("a-1.0-cp38-abi3-manylinux2014_x86_64.whl", "a-1.0-cp39-cp39-linux_x86_64.whl"), ALL),
        (("a-1.0-cp311-cp311-linux_x86_64.whl", "b-2-cp312-cp312-linux_x86_64.whl"), []),
    ],
)
def test_pythons_are_those_that_every_package_has_a_wheel_for(
    names: tuple[str, ...], minors: list[int]
) -> None:
    assert allowed("".join(f'{{file = "{name}"}}\n' for name in names)) == minors
    urls = "".join(f'{{ url = "https://files.example/ab/{name}", size = 1 }}\n' for name in names)
    assert allowed(urls, file="uv.lock") == minors


def test_package_that_decides_is_named() -> None:
    lock = '{file = "grpcio-1.0-cp311-cp311-linux_x86_64.whl"}'
    found = wheels(Folder(MemoryTree({"poetry.lock": lock})), modules={})
    assert "grpcio" in found.lacking(Version(3, 13, 0))
    assert found.lacking(Version(3, 11, 0)) == ""


def test_lock_file_that_is_too_large_decides_nothing() -> None:
    lock = '{file = "a-1.0-cp311-cp311-linux_x86_64.whl"}\n' + "#" * 3_000_000
    assert allowed(lock) == ALL


TABLE = tomllib.loads(
    resources.files("moorage.planning.python").joinpath("packages.toml").read_text()
)


def test_table_of_packages_has_names_as_the_index_compares_them() -> None:
    names = set(TABLE["unfit"])
    names |= {name.partition("==")[0] for name in TABLE["also"].values()}
    names |= {
        word.partition("==")[0] for text in TABLE["imports"].values() for word in text.split()
    }
    names |= {word for name, text in TABLE["brings"].items() for word in (name, *text.split())}
    assert {name for name in names if name != canonicalize_name(name)} == set()
    assert set(TABLE["misnamed"]["names"].split()) <= set(TABLE["imports"])


def test_every_import_of_the_table_is_installed_by_one_package() -> None:
    modules = [*TABLE["imports"], *TABLE["same"]["names"].split()]
    first = {module: package_of(module)[:1] for module in modules}
    assert {module for module in modules if not first[module]} == set()
    assert {module: package_of(f"{module}.part")[:1] for module in modules} == first


FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
FLASK = "from flask import Flask\napp = Flask(__name__)\n"
POETRY = '[tool.poetry.dependencies]\npython = "^3.10"\nflask = "^3"\n'
PROJECT = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['flask', %r]\n"


@pytest.mark.parametrize(
    ("files", "package"),
    [
        (
            {
                "requirements.txt": "fastapi==0.104.1\nuvicorn==0.24.0\npydantic==2.5.0\n",
                "main.py": FASTAPI,
            },
            "pydantic==2.5.0",
        ),
        (
            {"requirements.txt": "flask\nnumpy==1.24.3\npandas==2.0.3\n", "app.py": FLASK},
            "numpy==1.24.3",
        ),
        ({"requirements.txt": "streamlit==1.29.0\n", "app.py": "import streamlit"}, "streamlit"),
        ({"requirements.txt": "Flask\nSQLAlchemy==2.0.23 # orm\n", "app.py": FLASK}, "sqlalchemy"),
        (
            {"pyproject.toml": PROJECT % "psycopg2-binary==2.9.9", "app.py": FLASK},
            "psycopg2-binary",
        ),
        ({"pyproject.toml": f'{POETRY}scipy = "~1.10"\n', "app.py": FLASK}, "scipy"),
        ({"Pipfile": '[packages]\nflask = "*"\nlxml = "==4.9.3"\n', "app.py": FLASK}, "lxml"),
        (
            {
                "requirements.txt": "-r base.txt\n",
                "base.txt": "flask\nasyncpg[gssauth] == 0.29.0 ; sys_platform == 'linux'\n",
                "app.py": FLASK,
            },
            "asyncpg==0.29.0",
        ),
        ({"requirements.txt": "django==3.2.25\n", "manage.py": "", "a/wsgi.py": ""}, "django"),
    ],
)
def test_pin_that_is_not_made_for_the_newest_python_gets_an_older_one_and_the_plan_says_so(
    files: dict[str, str], package: str
) -> None:
    made = plan(files)
    assert made.host_tools["python"] == "3.11.2"
    said = next(
        sentence for sentence in made.because if "is not made for python 3.13.5" in sentence
    )
    assert package in said
    assert said.endswith(": python 3.11.2")


@pytest.mark.parametrize(
    "line",
    [
        "numpy==2.1.0",
        "numpy",
        "numpy>=1.24",
        "numpy==1.24.3 ; python_version < '3.12'",
        "numpy==1.24.3 ; sys_platform == 'win32'",
        "numpy!=1.24.3",
        "pydantic==1.10.22",
        "pydantic<3",
        "sqlalchemy==1.4.54",
        "cryptography==41.0.7",
        "requests==2.31.0",
        "numpy @ https://example.com/numpy-1.24.3.tar.gz",
        "numpy==nonsense",
        "numpy==1.24.3 ; nonsense",
    ],
)
def test_what_runs_on_the_newest_python_or_cannot_be_read_decides_nothing(line: str) -> None:
    made = plan({"requirements.txt": f"flask\n{line}\n", "app.py": FLASK})
    assert made.host_tools["python"] == "3.13.5"


@pytest.mark.parametrize(
    "line",
    [
        "numpy<2",
        "numpy<2.1",
        "numpy>=1.20,<=1.26.4",
        "numpy==1.26.*",
        "numpy~=1.26",
        "numpy~=1.26.0",
        "pydantic<1.10.13",
        "pydub",
        "numpy===1.24.3",
        "numpy==1.24.3 --hash=sha256:00",
    ],
)
def test_newest_version_that_is_allowed_decides(line: str) -> None:
    made = plan({"requirements.txt": f"flask\n{line}\n", "app.py": FLASK})
    assert made.host_tools["python"] == "3.11.2"


def test_module_that_the_newest_python_lacks_gets_an_older_one() -> None:
    made = plan({"app.py": f"import cgi\n{FLASK}"})
    assert made.host_tools["python"] == "3.11.2"
    assert "app.py imports cgi, which is no longer in python 3.13.5: python 3.11.2" in made.because
    optional = "try:\n    import cgi\nexcept ImportError:\n    cgi = None\n"
    assert plan({"app.py": optional + FLASK}).host_tools["python"] == "3.13.5"


def test_python_that_is_asked_for_goes_before_pins_and_the_plan_says_what_is_against_it() -> None:
    files = {"requirements.txt": "flask\nnumpy==1.24.3\n", "app.py": FLASK}
    made = plan(files, runtime="python:3.13")
    assert made.host_tools["python"] == "3.13.5"
    assert any("numpy==1.24.3 is not made for python 3.13.5" in said for said in made.because)


def test_nearest_to_a_python_that_lacks_here_is_one_that_the_pins_run_on() -> None:
    files = {"requirements.txt": "flask\nnumpy==1.26.4\n", "app.py": FLASK}
    assert plan({**files, ".python-version": "3.12"}).host_tools["python"] == "3.11.2"


def test_pins_of_a_lock_file_count_as_well() -> None:
    lock = 'name = "sqlalchemy"\nversion = "2.0.23"\nfiles = []\n'
    files = {"pyproject.toml": POETRY, "poetry.lock": f"[[package]]\n{lock}", "app.py": FLASK}
    assert plan(files).host_tools["python"] == "3.11.2"


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "flask\n", "app.py": FLASK},
        {
            "requirements.txt": "fastapi\n",
            "main.py": "from fastapi import FastAPI\napp = FastAPI()\n",
        },
        {"pyproject.toml": "[project]\nname = 'a'\ndependencies = ['flask']\n", "app.py": FLASK},
        {"requirements.txt": "streamlit\n", "app.py": "import streamlit as st\nst.title('Hi')\n"},
        {"requirements.txt": "django\n", "manage.py": "", "a/wsgi.py": ""},
    ],
)
def test_app_that_asks_for_no_python_may_be_tried_on_an_older_one(files: dict[str, str]) -> None:
    made = plan(files)
    assert (made.host_tools["python"], made.older_python) == ("3.13.5", "3.11.2")


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        ({".python-version": "3.13"}, {}),
        ({"runtime.txt": "python-3.13.1"}, {}),
        ({}, {"runtime": "python:3.13"}),
        ({}, {"runtime": "python:3.11"}),
        ({}, {"installCommand": "pip install -r requirements.txt"}),
        ({}, {"installCommand": ""}),
        ({"requirements.txt": "numpy==1.24.3\n"}, {}),  # which is on the oldest already
    ],
)
def test_python_or_install_that_is_asked_for_is_never_tried_otherwise(
    files: dict[str, str], settings: dict[str, str]
) -> None:
    made = plan({"requirements.txt": "flask\n", "app.py": FLASK} | files, **settings)
    assert made.older_python is msgspec.UNSET


@pytest.mark.parametrize(
    ("specifiers", "found"),
    [
        ([("flask", "==2.2.2")], ["werkzeug<3"]),
        ([("flask", "==1.1.2")], ["itsdangerous<2.1", "jinja2<3.1", "werkzeug<2.1"]),
        ([("flask", "==2.2.2"), ("werkzeug", ">=2.2")], ["werkzeug<3"]),
        ([("flask", "==2.2.2"), ("werkzeug", "==2.2.3")], []),
        ([("flask", ">=2.2")], []),
        ([("passlib", "")], []),
        ([("passlib", ""), ("bcrypt", "")], ["bcrypt<4.1"]),
        ([("openai", "==0.28.1")], []),
    ],
)
def test_old_version_gets_companions_that_the_app_leaves_open(
    specifiers: list[tuple[str, str]], found: list[str]
) -> None:
    assert companions(specifiers) == found
