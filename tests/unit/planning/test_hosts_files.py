"""Files of other hosts: where they decide, and what goes before them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.reading.formats import yaml_document
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING


def plan(files: dict[str, str], **settings: Any) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), EVERYTHING)


def package(build: str, **more: object) -> dict[str, str]:
    return {"package.json": json.dumps({"scripts": {"build": build}, **more})}


VITE = package("vite build", devDependencies={"vite": "7"})
OWN = package("node build.mjs", devDependencies={"esbuild": "1"})
FLASK = {
    "app.py": "from flask import Flask\napp = Flask(__name__)\n",
    "requirements.txt": "flask\ngunicorn",
}
FASTAPI = {
    "main.py": "from fastapi import FastAPI\napp = FastAPI()\n",
    "requirements.txt": "fastapi",
}
DJANGO = {
    "manage.py": "DJANGO_SETTINGS_MODULE', 'shop.settings'",
    "shop/wsgi.py": "",
    "requirements.txt": "django\ngunicorn",
}
RENDER = """\
services:
  - type: web
    name: shop  # the shop
    runtime: python
    buildCommand: pip install -r requirements.txt
    startCommand: gunicorn app:app --workers 3
    envVars:
      - key: A
        value: "b: c"
  - type: worker
    name: mail
    startCommand: python mail.py
databases:
  - name: books
"""


@pytest.mark.parametrize(
    ("files", "start"),
    [
        ({**FLASK, "railway.json": '{"deploy": {"startCommand": "gunicorn -w 2 app:app"}}'},
         "exec gunicorn -w 2 app:app"),
        ({**FASTAPI, "railway.toml": "[deploy]\nstartCommand = \"uvicorn main:app --workers 2\""},
         "exec uvicorn main:app --workers 2"),
        ({**FLASK, "render.yaml": RENDER}, "exec gunicorn app:app --workers 3"),
        ({"x.js": "", "package.json": "{}", "nixpacks.toml": "[start]\ncmd = \"node x.js\""},
         "exec node x.js"),
        ({**FASTAPI, "fly.toml": "[processes]\napp = \"uvicorn main:app\""},
         "exec uvicorn main:app"),
        ({**FLASK, "heroku.yml": "run:\n  web: gunicorn app:app -k gthread\n"},
         "exec gunicorn app:app -k gthread"),
        ({**FLASK, "app.yaml": "runtime: python\nentrypoint: gunicorn -b :$PORT app:app\n"},
         "exec gunicorn -b :$PORT app:app"),
        ({**FASTAPI, ".do/app.yaml": "services:\n- name: a\n  run_command: uvicorn main:app\n"},
         "exec uvicorn main:app"),
    ],
)  # fmt: skip
def test_start_of_another_hosts_file_starts_the_app(files: dict[str, str], start: str) -> None:
    assert plan(files).start == start


@pytest.mark.parametrize(
    ("files", "settings", "start"),
    [
        ({"Procfile": "web: gunicorn app:app -w 9"}, {}, "exec gunicorn app:app -w 9"),
        ({}, {"runCommand": "flask run"}, "exec flask run"),
        ({"Procfile": "web: gunicorn app:app"}, {"runCommand": "flask run"}, "exec flask run"),
    ],
)
def test_settings_and_a_procfile_go_before_another_hosts_file(
    files: dict[str, str], settings: dict[str, str], start: str
) -> None:
    assert plan({**FLASK, "render.yaml": RENDER, **files}, **settings).start == start


@pytest.mark.parametrize(
    "command",
    [
        *("npm start", "npm run start", "yarn start", "npm run dev", "vite", "next dev"),
        *("docker run x", "/app/server", "./bin/server", "npm run gone", "", "a\\u0000b"),
    ],
)
def test_start_that_says_nothing_more_decides_nothing(command: str) -> None:
    scripts = {"start": "node x.js", "dev": "vite"}
    files = {"package.json": json.dumps({"scripts": scripts})}
    railway = {"railway.json": f'{{"deploy": {{"startCommand": "{command}"}}}}'}
    assert plan({**files, **railway}) == plan(files)


@pytest.mark.parametrize(
    ("files", "build"),
    [
        ({**OWN, "netlify.toml": "[build]\ncommand = \"npm run build\"\npublish = \"web\""},
         "(npm run build\n)"),
        ({**VITE, "vercel.json": '{"buildCommand": "vite build --mode live"}'},
         "(vite build --mode live\n)"),
        ({**VITE, "nixpacks.toml": "[phases.build]\ncmds = [\"...\", \"npx gen\", \"yarn build\"]"},
         "(npx gen && yarn build\n)"),
        ({**VITE, "railway.json": '{"build": {"buildCommand": "npm ci && npm run build"}}'},
         "(npm run build\n)"),
        ({**VITE, "netlify.toml": "[build]\ncommand = \"hugo --minify\"\npublish = \"public\""},
         "(npm run build\n)"),
    ],
)  # fmt: skip
def test_build_of_another_hosts_file_is_run(files: dict[str, str], build: str) -> None:
    made = plan(files)
    assert (made.build or "").startswith(build)
    assert "npm install" in (made.install or "")


def test_install_that_is_not_plain_is_the_install() -> None:
    vercel = {"vercel.json": '{"installCommand": "npm install --legacy-peer-deps"}'}
    assert plan({**VITE, **vercel}).install == "npm install --legacy-peer-deps"
    build = "pip install -U pip && pip install -r requirements/prod.txt"
    render = {"render.yaml": f"services:\n  - type: web\n    buildCommand: {build}\n"}
    install = plan({**FLASK, **render}).install or ""
    assert install.endswith("pip install -r requirements/prod.txt")


@pytest.mark.parametrize("script", ["./build.sh", "bash build.sh", "sh ./build.sh"])
def test_django_is_migrated_at_its_start_rather_than_in_a_build(script: str) -> None:
    build = "#!/usr/bin/env bash\n# Render\nset -o errexit\npip install -r requirements.txt\n\n"
    build += "python manage.py collectstatic --no-input\npython manage.py migrate\n"
    render = (
        f"services:\n- type: web\n  buildCommand: {script}\n  startCommand: gunicorn shop.wsgi\n"
    )
    made = plan({**DJANGO, "render.yaml": render, "build.sh": build})
    assert made.build == "python manage.py collectstatic --no-input"
    assert made.start == "python manage.py migrate && gunicorn shop.wsgi"


def test_script_of_more_than_plain_lines_is_given_to_a_shell() -> None:
    render = "services:\n- type: web\n  buildCommand: ./build.sh\n  startCommand: ./run.sh\n"
    scripts = {"build.sh": "for x in 1 2; do\nmake $x\ndone\n", "run.sh": "exec node $1"}
    made = plan({**FLASK, **scripts, "render.yaml": render})
    assert (made.build, made.start) == ("bash ./build.sh", "exec bash ./run.sh")


@pytest.mark.parametrize(
    ("files", "step"),
    [
        ({"Gemfile": "", "config/environment.rb": ""}, "bundle exec rails db:migrate"),
        ({"package.json": "{}", "index.js": ""}, "npx prisma migrate deploy"),
        (FLASK, "flask db upgrade"),
        (FASTAPI, "alembic upgrade head"),
        ({"index.php": "<?php"}, "php artisan migrate --force"),
    ],
)
def test_database_is_brought_up_to_date_at_the_start(files: dict[str, str], step: str) -> None:
    railway = {
        "build": {"buildCommand": f"echo x; {step}"},
        "deploy": {"startCommand": "sh run.sh"},
    }
    made = plan({**files, "run.sh": "", "railway.json": json.dumps(railway)})
    assert step not in (made.build or "")
    assert made.start == f"{step} && bash ./run.sh"


@pytest.mark.parametrize(
    ("files", "serves"),
    [
        ({**OWN, "netlify.toml": "[build]\npublish = \"web-out\""}, "web-out/"),
        ({**VITE, "vercel.json": '{"outputDirectory": "site"}'}, "site/"),
        ({"pages/index.html": "", "a.txt": "", "firebase.json": '{"hosting": {"public": "pages"}}'},
         "pages/"),
        ({"x/index.html": "", "a.txt": "", "static.json": '{"root": "x/"}'}, "x/"),
        ({"x/index.html": "", "index.html": "", "netlify.toml": "[build]\npublish = \"x\""}, "x/"),
    ],
)  # fmt: skip
def test_directory_that_another_hosts_file_publishes_is_served(
    files: dict[str, str], serves: str
) -> None:
    assert said(plan(files).start).split(" ")[1] == serves
    given = plan({**files, "given/index.html": ""}, buildDir="given").start
    assert said(given).split(" ")[1] == "given/"


@pytest.mark.parametrize(
    "files",
    [
        package("next build", dependencies={"next": "15"}),
        package("nuxt build", dependencies={"nuxt": "4"}),
        {"package.json": '{"scripts": {"build": "x", "start": "node x"}}'},
        FLASK,
        {"index.php": "<?php"},
    ],
)
def test_server_stays_whatever_directory_a_file_publishes(files: dict[str, str]) -> None:
    netlify = {"netlify.toml": '[build]\npublish = ".next"', ".next/x": ""}
    assert plan({**files, **netlify}).start == plan(files).start


ROUTES = (
    "services:\n- type: web\n  routes:\n  - type: rewrite\n    source: /*\n"
    "    destination: /index.html\n"
)
REDIRECT = '[[redirects]]\nfrom = "/*"\nto = "/index.html"\nstatus = '


@pytest.mark.parametrize(
    ("file", "text", "is_fallback"),
    [
        ("netlify.toml", f"{REDIRECT}200\n", True),
        ("netlify.toml", f"{REDIRECT}301\n", False),
        ("vercel.json", '{"rewrites": [{"source": "/(.*)", "destination": "/index.html"}]}', True),
        ("vercel.json", '{"rewrites": [{"source": "/x", "destination": "/index.html"}]}', False),
        ("vercel.json", '{"rewrites": [{"source": "/(.*)", "destination": "/api"}]}', False),
        ("firebase.json",
         '{"hosting": {"rewrites": [{"source": "**", "destination": "/index.html"}]}}', True),
        ("_redirects", "/old /new 301\n/*  /index.html  200\n", True),
        ("_redirects", "/* /index.html 302\n", False),
        ("render.yaml", ROUTES, True),
    ],
)  # fmt: skip
def test_page_that_routes_in_the_browser_gets_all_paths(
    file: str, text: str, is_fallback: bool
) -> None:
    made = plan({"index.html": "", file: text})
    assert ("index.html for what is no file" in said(made.start)) == is_fallback


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("netlify.toml", '[build]\nbase = "web"\npublish = "web/dist"'),
        ("render.yaml", "services:\n- type: web\n  rootDir: web\n  staticPublishPath: ./dist\n"),
        (
            "docker-compose.yml",
            "services:\n  page:\n    build: ./web\n  db:\n    image: postgres\n",
        ),
        ("compose.yaml", "services:\n  page:\n    build:\n      context: web\n"),
    ],
)
def test_directory_that_a_file_names_is_the_apps(file: str, text: str) -> None:
    others = {"api/package.json": '{"scripts": {"start": "node x"}}'}
    made = plan({file: text, **others, **{f"web/{name}": it for name, it in VITE.items()}})
    assert made.directory == "web"
    assert said(made.start).startswith("serves dist/")
    assert plan({file: text, **others, "web/x": ""}, directoryPath="api").directory == "api"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("services:\n  web:\n    build: ./web\n  api:\n    build: {context: api}\n",
         "2 services (web in web, api in api)"),
        ("services:\n  a:\n    build: .\n  b:\n    build: .\n  c:\n    image: redis\n",
         "2 services (a, b)"),
    ],
)  # fmt: skip
def test_several_services_that_are_built_are_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(PlanNotFound) as refused:
        plan({"compose.yaml": text, "web/package.json": "{}", "api/package.json": "{}"})
    assert named in refused.value.message
    assert len(refused.value.message) <= 300


def test_compose_file_counts_only_where_other_files_say_nothing() -> None:
    text = "services:\n  a:\n    build: .\n    command: npm run dev\n  b:\n    build: ./b\n"
    beside = plan({**FLASK, "compose.yaml": text, "b/x": ""})
    assert beside.start == plan({**FLASK, "b/x": ""}).start
    assert "compose.yaml builds b in b as well, which is an app of its own" in beside.because
    one = "services:\n  a:\n    build: .\n    command: [python, serve.py, --name, a b]\n"
    made = plan({"compose.yaml": one, "serve.py": "", "other.py": "", "requirements.txt": "x"})
    assert made.start == "exec python serve.py --name 'a b'"
    assert made.stack is Stack.PYTHON


def test_dockerfile_of_the_one_service_is_followed() -> None:
    text = "services:\n  a:\n    build: ./web\n  db:\n    image: postgres\n"
    docker = "FROM node:20\nWORKDIR /app\nCOPY . .\nCMD node x.js"
    files = {"compose.yaml": text, "web/Dockerfile": docker, "web/x.js": ""}
    assert plan(files, hasDockerfile=True).start == "exec node x.js"
    two = f"{text}  c:\n    build: ./c\n"
    with pytest.raises(PlanNotFound, match="2 services"):
        plan({**files, "compose.yaml": two}, hasDockerfile=True)


@pytest.mark.parametrize(
    ("files", "start", "stack"),
    [
        ({"start.sh": "#!/bin/sh\nexec uvicorn a.b:api\n", "requirements.txt": "fastapi"},
         "exec uvicorn a.b:api", Stack.PYTHON),
        ({"start.sh": "for i in 1; do echo; done\nnode x\n", "x": ""}, "exec bash ./start.sh",
         Stack.CUSTOM),
        ({"run.sh": "cd lib && ruby web.rb\n", "lib/web.rb": ""}, "cd lib && ruby web.rb",
         Stack.CUSTOM),
        ({"start.sh": "node lib/x.js", "package.json": "{}"}, "exec node lib/x.js", Stack.NODE),
        ({"start.sh": "./serve --port $PORT", "serve": ""}, "exec ./serve --port $PORT",
         Stack.CUSTOM),
    ],
)  # fmt: skip
def test_start_script_starts_what_nothing_else_does(
    files: dict[str, str], start: str, stack: Stack
) -> None:
    made = plan(files)
    assert (made.start, made.stack) == (start, stack)


def test_start_script_goes_behind_everything_else() -> None:
    assert plan({**FLASK, "start.sh": "x"}) == plan(FLASK)
    with pytest.raises(PlanNotFound, match=r"start\.sh"):
        plan({"start.sh": "docker compose up\n"})
    with pytest.raises(RuntimeUnsupported, match="no elixir"):
        plan({"start.sh": "mix phx.server\n"})


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("a: 1\nb: 'x: y' # z\n", {"a": "1", "b": "x: y"}),
        ("a:\n  - b: 1\n    c: 2\n  - d\n", {"a": [{"b": "1", "c": "2"}, "d"]}),
        ("a:\n- 1\n- 2\nb: true", {"a": ["1", "2"], "b": True}),
        ("a: |\n  x\n  y # z\nb: >-\n  c\n  d\n", {"a": "x\ny # z", "b": "c d"}),
        ("a: [x, 'y']\nb: {c: d, e: f}\n", {"a": ["x", "y"], "b": {"c": "d", "e": "f"}}),
        ("a: &x\n  b: 1\nc: *x\n", {"a": None, "c": None}),
        ("---\n# hi\n\na: null\n---\nb: 1\n", {"a": None}),
        ("a: http://x:80/#b\n", {"a": "http://x:80/#b"}),
    ],
)
def test_yaml_is_read_as_people_write_it(text: str, document: object) -> None:
    assert yaml_document(text) == document


LINES = (
    "a:",
    "- b",
    "- c: d",
    "  e: |",
    "    x",
    "\t",
    "f: [",
    "{",
    "  - -",
    ": :",
    "&a",
    "'\"",
    "",
)


@given(st.lists(st.sampled_from(LINES)).map("\n".join), st.text())
def test_any_file_of_another_host_is_read(text: str, other: str) -> None:
    other = other.encode("utf-8", "replace").decode()
    names = ("compose.yaml", "render.yaml", "netlify.toml", "vercel.json", "_redirects", "start.sh")
    for content in (text, other):
        made = plan({"index.html": "", **dict.fromkeys(names, content)})
        assert made.stack is Stack.STATIC


@pytest.mark.parametrize(
    "text", ["- " * 30_000, "a:\n " * 20_000, "[" * 60_000, "a" * 65_000, "a" + " " * 65_000 + "b"]
)
def test_yaml_made_to_be_slow_is_read_in_linear_time(text: str) -> None:
    # Nothing is measured: with one pattern of quadratic cost this takes minutes.
    plan({"index.html": "", "render.yaml": text})


def test_command_with_many_options_is_read_in_linear_time() -> None:
    # Nothing is measured: with two ways to read each option this never ends.
    command = "npm run other" + " --option" * 60 + " !"
    plan({"index.html": "", "render.yaml": f"services:\n- type: web\n  startCommand: {command}\n"})
