"""Whatever is uploaded and asked for: a plan or a refusal, the same each time, within bounds."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import InvalidRequest
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

NAMES = (
    *("package.json", "package-lock.json", "requirements.txt", "pyproject.toml", "Pipfile"),
    *("Procfile", "index.html", "index.js", "app.js", "src/index.ts", "vite.config.ts", "go.mod"),
    *("main.py", "app.py", "manage.py", "shop/wsgi.py", "shop/__init__.py", "odd name.py"),
    *("next.config.mjs", "dist/index.html", "sub/package.json", "sub/main.py", "sub/Procfile"),
)
FRAGMENTS = (
    *("app = FastAPI()\n", "app: Flask = Flask(x)\n", "def create_app(a=(1)):\n", '"""', "'", "\\"),
    *(
        "from . import x\n",
        "import shop\n",
        "web: run $PORT\n",
        "-r requirements.txt\n",
        "flask=1\n",
    ),
    *(
        "fastapi[all]\n",
        "[project]\n",
        'dependencies = ["a"]\n',
        "[tool.poetry]\n",
        ".listen(",
        "\0",
    ),
    *(
        "output: 'export'",
        "outDir: '../x'",
        "outDir: 'x y'",
        "#",
        "\n",
        "\r\n",
        "é",
        "app = get_app(",
    ),
)
PACKAGES = ("vite", "next", "nuxt", "astro", "@sveltejs/kit", "tsx", "react-scripts", "x")
SCRIPTS = ("start", "build", "prestart", "postinstall")
COMMANDS = (
    "node a.js",
    "vite",
    "next build",
    "nuxt generate",
    "a && b",
    "",
    "A=1 b",
    "x\0",
    "$npm_x",
)

json_value: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
manifest = st.fixed_dictionaries(
    {},
    optional={
        "scripts": st.dictionaries(st.sampled_from(SCRIPTS), st.sampled_from(COMMANDS))
        | json_value,
        "main": st.sampled_from(("index.js", "./dist/x.js", "../x.js", "-x.js", "/x")) | json_value,
        "dependencies": st.dictionaries(st.sampled_from(PACKAGES), st.just("1")) | json_value,
        "devDependencies": st.dictionaries(st.sampled_from(PACKAGES), st.just("1")),
        "workspaces": json_value,
    },
).map(json.dumps)
text = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=8).map("".join)
content = (
    text.map(lambda value: value.encode("utf-8", "replace"))
    | st.binary(max_size=40)
    | json_value.map(lambda value: json.dumps(value).encode())
)
files = st.dictionaries(st.sampled_from(NAMES), content, max_size=8)
command = st.none() | st.sampled_from(COMMANDS) | st.text(max_size=20)
directory = st.none() | st.sampled_from(("/", ".", "sub", "dist", "../x", "index.js")) | st.text()
wishes = st.builds(
    Settings,
    runtime=st.just("build-ai") | st.sampled_from(("node:20", "python", "static")) | st.text(),
    build_command=command,
    run_command=command,
    install_command=command,
    framework=st.none() | st.sampled_from(("vite", "flask", "next", "gin")) | st.text(),
    directory_path=directory,
    build_dir=directory,
    run_envs=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
usual = st.builds(Settings)


def outcome(uploaded: dict[str, bytes], wanted: Settings) -> Plan | str:
    tree = MemoryTree(uploaded)
    try:
        return make_plan(tree, wanted, TOOLBOX)
    except InvalidRequest as refused:
        return f"{type(refused).__name__}: {refused.message}"
    finally:
        assert len(tree.files_read) <= 4 * len(uploaded) + 4


def check(uploaded: dict[str, bytes], wanted: Settings) -> None:
    made = outcome(uploaded, wanted)
    again = outcome(dict(reversed(uploaded.items())), wanted)
    assert made == again
    if isinstance(made, str):
        return
    assert made.digest == again.digest  # type: ignore[union-attr]
    assert made.start
    assert made.because
    for line in (made.install, made.build, made.start):
        assert line is None or (line.strip() and "\0" not in line and len(line) < 6000)
    assert not made.directory.startswith("/")
    assert ".." not in made.directory.split("/")
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


@given(files, manifest | st.none(), usual | wishes)
@settings(max_examples=400, deadline=None)
def test_every_upload_gets_a_plan_or_a_refusal(
    uploaded: dict[str, bytes], package_json: str | None, wanted: Settings
) -> None:
    if package_json is not None:
        uploaded = {**uploaded, "package.json": package_json.encode()}
    check(uploaded, wanted)
