import pytest

from moorage.planning.python import objects
from moorage.planning.python.objects import App, find_app
from moorage.planning.reading.folder import Folder
from support.engines.memory_tree import MemoryTree

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


def find(files: dict[str, str], *, installed: str = "", hint: str = "") -> App | None:
    return find_app(Folder(MemoryTree(files)), frozenset(installed.split()), hint)


def target(files: dict[str, str], **options: str) -> str:
    app = find(files, **options)
    assert app is not None
    return f"{app.root}>{app.module}:{app.attribute}{'()' if app.factory else ''} {app.server}"


@pytest.mark.parametrize(
    ("line", "attribute"),
    [
        ("app = FastAPI()", "app"),
        ("api=fastapi.FastAPI(title='x')", "api"),
        ("service: FastAPI = FastAPI(\n    debug=True,\n)", "service"),
        ("sub = FastAPI()\napp = FastAPI()", "app"),
        ("app = Starlette(routes=[])", "app"),
        ("app = Litestar([index])", "app"),
    ],
)
def test_asgi_object_is_run_by_uvicorn(line: str, attribute: str) -> None:
    assert target({"web.py": line}) == f">web:{attribute} uvicorn"


@pytest.mark.parametrize("line", ["app = Flask(__name__)", "app = flask.Flask('x')\r\n"])
def test_flask_object_is_run_by_gunicorn(line: str) -> None:
    assert target({"web.py": line}) == ">web:app gunicorn"


@pytest.mark.parametrize(
    "text",
    [
        '"""\napp = FastAPI()\n"""',
        "'''\napp = FastAPI()\n'''",
        "# app = FastAPI()",
        "def make():\n    app = FastAPI()",
        "class FastAPI(Base): pass",
        "app = NotFastAPI()",
        "def create_app(config):\n    return FastAPI()",
    ],
)
def test_what_only_looks_like_an_app_is_none(text: str) -> None:
    assert find({"main.py": text}) is None


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "config=None",
        "*args, **kw",
        "a: dict[str, int] = {}, b=dict(x=1)",
        "*, debug=f(1)",
    ],
)
def test_factory_that_needs_no_arguments_is_called(parameters: str) -> None:
    text = f"def create_app({parameters}) -> Flask:\n    return Flask('x')\n"
    assert target({"web.py": text}) == ">web:create_app() gunicorn"


def test_likely_names_near_the_root_go_first() -> None:
    files = {"zeta.py": FASTAPI, "deep/er/main.py": FASTAPI, "pkg/server.py": FASTAPI}
    assert target(files) == ">pkg.server:app uvicorn"
    assert target({**files, "api.py": FASTAPI}) == ">api:app uvicorn"
    assert target({**files, "main.py": FASTAPI, "api.py": FASTAPI}) == ">main:app uvicorn"


@pytest.mark.parametrize(
    "file",
    ["tests/main.py", "test_main.py", "node_modules/a/main.py", ".venv/lib/app.py", "a-b.py"],
)
def test_files_that_are_no_part_of_the_app_are_passed_over(file: str) -> None:
    assert find({file: FASTAPI}) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"api/main.py": FASTAPI}, ">api.main:app"),
        ({"api/main.py": "from api.db import x\n" + FASTAPI, "api/db.py": ""}, ">api.main:app"),
        ({"api/main.py": "from db import x\n" + FASTAPI, "api/db.py": ""}, "api>main:app"),
        (
            {"api/main.py": "import db\nfrom api import x\n" + FASTAPI, "api/db.py": ""},
            ">api.main:app",
        ),
        ({"api/main.py": "from .db import x\n" + FASTAPI, "api/db.py": ""}, ">api.main:app"),
        ({"src/shop/main.py": FASTAPI, "src/shop/__init__.py": ""}, "src>shop.main:app"),
        ({"my-api/main.py": FASTAPI}, "my-api>main:app"),
        ({"my-api/shop/main.py": FASTAPI, "my-api/shop/__init__.py": ""}, "my-api>shop.main:app"),
        ({"shop/__init__.py": FASTAPI}, ">shop:app"),
    ],
)
def test_module_is_named_from_where_its_imports_work(files: dict[str, str], expected: str) -> None:
    assert target(files) == f"{expected} uvicorn"


def test_factory_of_another_module_decides_the_server() -> None:
    files = {
        "wsgi.py": "from shop import create_app\napp = create_app()\n",
        "shop/__init__.py": "def create_app():\n    return Flask('x')\n",
    }
    assert target(files) == ">wsgi:app gunicorn"
    only = {"main.py": "from hidden import create_app\napp = create_app()\n"}
    assert find(only) is None
    assert target(only, installed="fastapi") == ">main:app uvicorn"


def test_hint_prefers_its_framework() -> None:
    files = {"main.py": FASTAPI, "site.py": "app = Flask('x')\n"}
    assert target(files, hint="flask") == ">site:app gunicorn"
    assert target({"main.py": FASTAPI}, hint="flask") == ">main:app uvicorn"


def test_reading_is_bounded() -> None:
    tree = MemoryTree({f"m{index:03}.py": "x" * 100_000 for index in range(500)})
    assert find_app(Folder(tree), frozenset(), "") is None
    assert tree.bytes_read <= objects.TOTAL_LIMIT
    small = MemoryTree({f"m{index:03}.py": "x" for index in range(500)})
    assert find_app(Folder(small), frozenset(), "") is None
    assert len(small.files_read) == objects.FILES_LIMIT
