"""Start scripts that run a server beside what is for development."""

import json

import pytest

from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

SCRIPTS = {
    "server": "nodemon server.js",
    "client": "npm start --prefix client",
    "dev:page": "cross-env A=1 vite",
    "dev:css": "tailwindcss -i a.css -o b.css --watch",
    "api": "node api.js",
}
CLIENT = {"scripts": {"start": "react-scripts start", "dev": "vite", "serve": "node serve.js"}}


def plan(start: str, **scripts: str) -> Plan:
    manifest = {"scripts": {**SCRIPTS, "start": start, **scripts}, "dependencies": {"express": "5"}}
    files = {
        "package.json": json.dumps(manifest),
        "client/package.json": json.dumps(CLIENT),
        "server.js": "",
    }
    return make_plan(MemoryTree(files), Settings(), TOOLBOX)


@pytest.mark.parametrize(
    ("start", "command"),
    [
        ('concurrently "npm run server" "npm run client"', "exec node server.js"),
        ("concurrently -k -n api,web 'npm:api' 'npm:client'", "exec node api.js"),
        ("concurrently npm:dev:* npm:api", "exec node api.js"),
        ("npx concurrently \"node server.js\" \"cd client && npm run dev\"", "exec node server.js"),
        ("concurrently --kill-others \"yarn --cwd client dev\" 'tsc -w' 'nodemon api.js'",
         "exec node api.js"),
        ("npm-run-all --parallel api client", "exec node api.js"),
        ("run-p dev:* api", "exec node api.js"),
        ("concurrently vite \"cd api && node index.js\"", "cd api && node index.js"),
    ],
)  # fmt: skip
def test_only_the_server_is_started(start: str, command: str) -> None:
    made = plan(start)
    assert made.start == command
    assert any("for visitors" in sentence for sentence in made.because)


@pytest.mark.parametrize(
    "start",
    [
        'concurrently "npm run server" "npm run api"',
        'concurrently "npm run server" "cd client && npm run serve"',
        'concurrently "npm run server" "cd ../client && npm run dev"',
        "concurrently 'npm run server",
        "concurrently npm:server",
        "npm-run-all client server",
        "npm-run-all --parallel dev:page --serial api",
    ],
)
def test_what_starts_several_servers_is_left_as_it_is(start: str) -> None:
    assert plan(start).start in (f"exec {start}", "exec npm run --silent start")


def test_hooks_of_a_start_script_are_kept() -> None:
    start = 'concurrently "npm run server" "npm run client"'
    assert plan(start, prestart="node prepare.js").start == "exec npm run --silent start"


def test_page_in_a_directory_is_built_as_for_heroku() -> None:
    made = plan(
        'concurrently "npm run server" "npm run client"',
        **{"heroku-postbuild": "npm install --prefix client && npm run build --prefix client"},
    )
    assert made.build == "npm run heroku-postbuild"
