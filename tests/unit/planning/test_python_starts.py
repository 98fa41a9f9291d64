"""How Python apps are started whose files have no well-known name."""

import pytest

from moorage.errors import PlanNotFound
from moorage.planning.plan import Plan, RiskCode, Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

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


BY_GUNICORN = "exec .venv/bin/gunicorn --bind 0.0.0.0:$PORT --threads 4"


@pytest.mark.parametrize(
    ("files", "start"),
    [
        (
            {"server.py": "from sanic import Sanic\napp = Sanic('a')\n"},
            "exec .venv/bin/sanic --host 0.0.0.0 --port $PORT server:app",
        ),
        (
            {"shop/web.py": "from sanic import Sanic\nfrom . import db\napp = Sanic('a')\n"},
            "exec .venv/bin/sanic --host 0.0.0.0 --port $PORT shop.web:app",
        ),
        (
            {"app.py": "def create_app():\n    return Sanic('a')\n"},
            "exec .venv/bin/sanic --host 0.0.0.0 --port $PORT --factory app:create_app",
        ),
        ({"web.py": "import bottle\napp = bottle.Bottle()\n"}, f"{BY_GUNICORN} web:app"),
        ({"api.py": "import falcon\napp = falcon.App()\n"}, f"{BY_GUNICORN} api:app"),
        (
            {"api.py": "import falcon.asgi\napp = falcon.asgi.App()\n"},
            "exec .venv/bin/uvicorn --host 0.0.0.0 --port $PORT api:app",
        ),
        (
            {"main.py": "from aiohttp import web\napp = web.Application()\n"},
            BY_GUNICORN.replace("--threads 4", "--worker-class aiohttp.GunicornWebWorker main:app"),
        ),
    ],
)
def test_app_object_that_nothing_runs_is_run_by_its_server(
    files: dict[str, str], start: str
) -> None:
    assert plan(files).start == start


@pytest.mark.parametrize(
    "text",
    [
        "app = Sanic('a')\nif __name__ == '__main__':\n    app.run(port=8000)\n",
        "app = Bottle()\napp.run(host='0.0.0.0')\n",
        "import bottle\napp = Bottle()\nbottle.run(app)\n",
        "app = web.Application()\nweb.run_app(app)\n",
        "app = falcon.App()\nwith make_server('', 80, app) as httpd:\n    httpd.serve_forever()\n",
        "app = tornado.web.Application([])\napp.listen(80)\n",
    ],
)
def test_app_object_that_its_script_runs_is_run_by_the_script(text: str) -> None:
    assert plan({"server.py": text, "requirements.txt": "sanic"}).start.endswith("python server.py")


def test_sanic_app_in_a_directory_of_any_name_is_imported_from_there() -> None:
    made = plan({"my-api/main.py": "from sanic import Sanic\napp = Sanic('a')\n", "x.txt": ""})
    assert made.start == "exec .venv/bin/sanic --host 0.0.0.0 --port $PORT main:app"
    assert made.run_env["PYTHONPATH"] == "/app/my-api"


def django(package: str, settings: str = "", module: str = "settings") -> dict[str, str]:
    path = package.replace(".", "/")
    return {
        "requirements.txt": "django\n",
        "manage.py": f"os.environ.setdefault('DJANGO_SETTINGS_MODULE', '{package}.{module}')\n",
        f"{path}/wsgi.py": "",
        f"{path}/settings.py": settings,
    }


@pytest.mark.parametrize("package", ["example", "test", "docs", "build", "env", "src.example"])
def test_package_that_manage_py_names_is_djangos_whatever_its_name(package: str) -> None:
    assert plan(django(package)).start.endswith(f" {package}.wsgi:application")
    below = plan(django(package, module="settings.production"))
    assert below.start.endswith(f" {package}.wsgi:application")


def hosts_refused(files: dict[str, str]) -> list[str]:
    found = plan(files).risks or ()
    return [risk.message for risk in found if risk.code is RiskCode.HOST_REFUSED]


def test_package_that_manage_py_names_goes_before_others() -> None:
    files = {"aaa/wsgi.py": "", **django("shop")}
    assert plan(files).start.endswith(" shop.wsgi:application")
    assert plan({**files, "manage.py": ""}).start.endswith(" aaa.wsgi:application")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("DEBUG = True\n\nALLOWED_HOSTS = []\n", "line 3 of shop/settings.py, is empty"),
        ("ALLOWED_HOSTS = ['localhost']\n", "line 1 of shop/settings.py, has only 'localhost'"),
        ("\nALLOWED_HOSTS = [\n    'a.com',\n    'b.com',\n]\n", "line 2 of shop/settings.py"),
        ("# ALLOWED_HOSTS = ['*']\nALLOWED_HOSTS=[]\n", "line 2 of shop/settings.py, is empty"),
        ("  \nALLOWED_HOSTS = ['127.0.0.1', ]\n", "line 2 of shop/settings.py, has only"),
    ],
)
def test_hosts_that_django_refuses_are_told_with_their_line(settings: str, said: str) -> None:
    (risk,) = plan(django("shop", settings)).risks or ()
    assert (risk.code, risk.stops) == ("host_refused", "start")
    assert said in risk.message
    assert "400" in risk.message


@pytest.mark.parametrize(
    "settings",
    [
        "ALLOWED_HOSTS = ['*']\n",
        "ALLOWED_HOSTS = os.environ.get('HOSTS', '').split(',')\n",
        "ALLOWED_HOSTS = []\nif not DEBUG:\n    ALLOWED_HOSTS = ['*']\n",
        "ALLOWED_HOSTS = []\nALLOWED_HOSTS.append(os.environ['HOST'])\n",
        "ALLOWED_HOSTS = [os.environ['HOST']]\n",
    ],
)
def test_hosts_that_may_be_any_are_no_risk(settings: str) -> None:
    assert not hosts_refused(django("shop", settings))


def test_hosts_are_those_of_the_settings_that_are_served() -> None:
    files = {
        **django("shop", module="settings.local"),
        "shop/wsgi.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.live')\n",
        "shop/settings/base.py": "ALLOWED_HOSTS = []\n",
        "shop/settings/live.py": "from .base import *\nALLOWED_HOSTS = ['*']\n",
    }
    del files["shop/settings.py"]
    assert not hosts_refused(files)
    assert "served" not in plan(files).start


def test_hosts_that_django_refuses_are_answered_by_settings_of_the_apps_own() -> None:
    files = {
        **django("shop", module="settings.local"),
        "shop/wsgi.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.live')\n",
        "shop/settings/base.py": "ALLOWED_HOSTS = []\n",
        "shop/settings/live.py": "from .base import *\n",
    }
    del files["shop/settings.py"]
    assert not hosts_refused(files)
    own = "from ${DJANGO_SETTINGS_MODULE:-shop.settings.live} import *\nALLOWED_HOSTS = ['*']\n"
    assert own in plan(files).start
    by_procfile = {**files, "Procfile": "web: gunicorn shop.wsgi\n"}
    assert not hosts_refused(by_procfile)
    assert own in plan(by_procfile).start


@pytest.mark.parametrize("line", ["release: python manage.py migrate", "worker: celery -A shop"])
def test_procfiles_django_is_migrated_before_each_start_unless_a_line_does(line: str) -> None:
    web = "web: gunicorn shop.wsgi\n"
    start = plan({**django("shop"), "Procfile": f"{web}{line}\n"}).start
    assert start.endswith("exec gunicorn shop.wsgi")
    assert ("manage.py migrate --noinput\n" in start) is line.startswith("worker")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            "import marimo\napp = marimo.App()\n",
            "exec .venv/bin/marimo run --host 0.0.0.0 --port $PORT --headless notes.py",
        ),
        (
            "import solara\n@solara.component\ndef Page():\n    ...\n",
            "exec .venv/bin/solara run --host 0.0.0.0 --port $PORT --production notes.py",
        ),
    ],
)
def test_notebook_or_page_is_served_by_its_frameworks_program(text: str, start: str) -> None:
    assert plan({"notes.py": text}).start == start


def test_transport_of_a_long_mcp_server_is_found_at_its_end() -> None:
    tools = "# a tool\n" * 8_000
    end = 'def main():\n    mcp.run(transport=os.environ.get("MCP_TRANSPORT", "stdio"))\n'
    text = f'import os\nfrom mcp.server.fastmcp import FastMCP\nmcp = FastMCP("shop")\n{tools}{end}'
    manifest = '[project]\nname = "shop"\ndependencies = ["mcp"]\n'
    scripts = '[project.scripts]\nshop = "server:main"\n'
    made = plan({"pyproject.toml": manifest + scripts, "server.py": text})
    assert made.run_env["MCP_TRANSPORT"] == "streamable-http"


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ('"sqlite:///data/app.db"', "data"),
        ('"sqlite+aiosqlite:///./var/data/app.sqlite3"', "var/data"),
        ('os.path.join(BASE, "data", "app.db")', "data"),
        ('BASE / "data" / "app.sqlite3"', "data"),
        ('"data/app.db?timeout=5"', "data"),
        ('"sqlite:////srv/app.db"', ""),
        ('"sqlite:///app.db"', ""),
        ('"kept/app.db"', ""),
        ('"../data/app.db"', ""),
        ('f"{HOME}/data/app.db"', ""),
    ],
)
def test_directory_of_a_database_is_made_before_the_start(code: str, made: str) -> None:
    app = f"from flask import Flask\napp = Flask(__name__)\nplace = {code}\n"
    first, _, _ = plan({"app.py": app, "kept/.keep": ""}).start.rpartition("\n")
    assert first == (f"mkdir -p {made}" if made else "")
