"""Which part of an upload is the app: pages beside servers, single directories, lone pages."""

import json
from typing import Any

import msgspec
import pytest

from moorage.errors import PlanNotFound
from moorage.planning.pages import left_out
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING


def plan(files: dict[str, str], **settings: Any) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), EVERYTHING)


def package(build: str = "vite build", **more: object) -> dict[str, str]:
    manifest = {"scripts": {"build": build}, "devDependencies": {"vite": "7"}, **more}
    return {"package.json": json.dumps(manifest), "package-lock.json": "{}"}


SETTINGS = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')"
DJANGO = {"manage.py": SETTINGS, "shop/wsgi.py": SETTINGS, "shop/settings.py": "STATIC_ROOT = 1"}
FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
REQUIREMENTS = {"requirements.txt": "streamlit"}
GO = {"go.mod": "module x\n\ngo 1.22\n", "main.go": "package main\n"}


@pytest.mark.parametrize(
    ("files", "stack", "starts"),
    [
        ({**DJANGO, **REQUIREMENTS}, Stack.PYTHON, "--threads 4 shop.wsgi"),
        (DJANGO, Stack.PYTHON, "shop.wsgi:application"),
        ({"app.py": FLASK}, Stack.PYTHON, "app:app"),
        ({"src/web.py": FLASK, **REQUIREMENTS}, Stack.PYTHON, "web:app"),
        ({"main.py": FASTAPI, **REQUIREMENTS}, Stack.PYTHON, "uvicorn"),
        ({**REQUIREMENTS, "app.py": "import streamlit"}, Stack.PYTHON, "streamlit"),
        ({"artisan": "", "public/index.php": "<?php"}, Stack.PHP, "-t public"),
        (GO, Stack.GO, "./.bin/app"),
        ({"Gemfile": "gem 'rackup'", "config.ru": ""}, Stack.RUBY, "rackup"),
        ({"Cargo.toml": "[package]\nname='a'", "src/main.rs": ""}, Stack.RUST, "./.bin/a"),
    ],
)  # fmt: skip
def test_package_that_builds_a_page_is_a_step_of_the_app_beside_it(
    files: dict[str, str], stack: Stack, starts: str
) -> None:
    made = plan({**package(), **files})
    assert made.stack is stack
    assert starts in made.start
    assert "npm ci" in (made.install or "")
    assert "npm run build" in (made.build or "")
    assert made.host_tools["node"] == "20.20.2"


def test_page_is_built_before_the_app_collects_it() -> None:
    build = plan({**package(), **DJANGO}).build or ""
    assert build.index("npm run build") < build.index("collectstatic")
    assert plan({**package(), **GO}).install_inputs == (
        "go.mod", "package-lock.json", "package.json",
    )  # fmt: skip


def test_styles_are_built_where_a_package_builds_nothing_else() -> None:
    styles = {"package.json": '{"scripts": {"build:css": "tailwindcss -o static/x.css"}}'}
    assert plan({**styles, "app.py": FLASK, **REQUIREMENTS}).build == "npm run build:css"


def test_rails_builds_its_page_itself() -> None:
    made = plan({**package(), "Gemfile": "", "config/environment.rb": ""})
    assert made.build == "bundle exec rails assets:precompile"
    assert "npm ci" in (made.install or "")


def test_laravel_mix_builds_by_its_production_script() -> None:
    mix = {"scripts": {"production": "mix --production"}, "devDependencies": {"laravel-mix": "6"}}
    made = plan({"package.json": json.dumps(mix), "public/index.php": "<?php"})
    assert made.build == "npm run production"


@pytest.mark.parametrize(
    ("manifest", "files"),
    [
        ({"scripts": {"start": "node server.js", "build": "vite build"}}, {"app.py": FLASK}),
        (
            {"scripts": {"build": "next build"}, "dependencies": {"next": "15"}},
            {"api/index.py": FLASK, "app/page.js": ""},
        ),
        (
            {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}},
            {"api/index.py": FLASK, **REQUIREMENTS},
        ),
        (
            {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}},
            {"scripts/words.py": "print(1)", **REQUIREMENTS},
        ),
        (
            {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}},
            {"tools.py": FLASK, "requirements.txt": "a b c"},
        ),
    ],
)
def test_python_beside_a_package_that_serves_visitors_is_its_part(
    manifest: dict[str, object], files: dict[str, str]
) -> None:
    assert plan({"package.json": json.dumps(manifest), **files}).stack is Stack.NODE


@pytest.mark.parametrize("settings", [{"runtime": "node"}, {"framework": "vite"}])
def test_settings_decide_between_a_page_and_the_app_beside_it(settings: dict[str, str]) -> None:
    assert plan({**package(), **DJANGO}, **settings).stack is Stack.NODE


def test_start_script_that_runs_python_is_python() -> None:
    manifest = {"scripts": {"start": "python app.py"}}
    made = plan({"package.json": json.dumps(manifest), "app.py": FLASK, **REQUIREMENTS})
    assert made.stack is Stack.PYTHON


@pytest.mark.parametrize("given", [{"buildCommand": "make"}, {"installCommand": "pip install ."}])
def test_given_steps_take_the_place_of_the_pages(given: dict[str, str]) -> None:
    made = plan({**package(), **DJANGO}, **given)
    assert "npm" not in f"{made.install}{made.build}"


@pytest.mark.parametrize(
    ("files", "page"),
    [
        (["todo-app.html"], "todo-app.html"),
        (["Index.html", "about.html", "style.css"], "Index.html"),
        (["INDEX.HTM"], "INDEX.HTM"),
        (["Home.html", "about.html"], "Home.html"),
        (["my game.html", "game.js", "README.md"], "'my game.html'"),
        (["default.htm", "x.html"], "default.htm"),
    ],
)
def test_plain_first_page_is_the_index(files: list[str], page: str) -> None:
    made = plan(dict.fromkeys(files, "<p>"))
    assert made.build == f"cp -n -- {page} index.html"
    assert said(made.start) == "serves the app's files by Caddy"


@pytest.mark.parametrize(
    ("entry", "text", "directory", "stack"),
    [
        ("app/index.php", "<?php", "app", Stack.PHP),
        ("backend/main.go", "package main\n", "backend", Stack.GO),
        ("my-site/index.html", "", "my-site", Stack.STATIC),
        ("portfolio/Index.html", "", "portfolio", Stack.STATIC),
        ("pages/game.html", "", "pages", Stack.STATIC),
        ("web/app.rb", "require 'sinatra'\n", "web", Stack.RUBY),
        ("server/index.js", "", "server", Stack.NODE),
        ("code/server/server.js", "", "code/server", Stack.NODE),
        ("bot/bot.py", "", "bot", Stack.PYTHON),
        ("services/web/config.ru", "", "services/web", Stack.RUBY),
    ],
)
def test_only_directory_with_an_entry_is_the_app(
    entry: str, text: str, directory: str, stack: Stack
) -> None:
    beside = {"README.md": "", "docs/index.md": "", "tests/test_a.py": "", "assets/a.html": ""}
    gemfile = {f"{directory}/Gemfile": ""} if stack is Stack.RUBY else {}
    made = plan({**beside, **gemfile, entry: text})
    assert (made.directory, made.stack) == (directory, stack)


def test_program_goes_before_pages_of_other_directories() -> None:
    made = plan({"README.md": "", "backend/main.go": "package main\n", "frontend/index.html": ""})
    assert made.directory == "backend"


def test_package_of_tools_at_the_root_is_not_the_app() -> None:
    tools = {"package.json": '{"devDependencies": {"husky": "9"}}'}
    made = plan({**tools, "web/package.json": '{"scripts": {"start": "node x"}}'})
    assert made.directory == "web"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["a/index.js", "b/main.py"], "a, b"),
        (["one/index.html", "two/index.html"], "one, two"),
        (["x/a/main.go", "x/b/main.go"], "x/a, x/b"),
        ([f"{n}{'y' * 99}/main.go" for n in range(10, 30)], f"10{'y' * 28}, .* and 14 more"),
    ],
)
def test_several_directories_with_entries_are_named(files: list[str], named: str) -> None:
    with pytest.raises(PlanNotFound, match=f"There are apps in {named}:"):
        plan({"README.md": "", **dict.fromkeys(files, "")})


@pytest.mark.parametrize("file", ["Shop.sln", "mix.exs", "build.sbt", "pubspec.yaml", "a.cabal"])
def test_pages_of_an_app_in_another_language_are_not_served_alone(file: str) -> None:
    with pytest.raises(PlanNotFound, match="which this gateway does not run"):
        plan({file: "", "wwwroot/index.html": ""})


def at(directory: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{directory}/{name}": text for name, text in files.items()}


EXPRESS = {"package.json": '{"scripts": {"start": "node server.js"}}'}


@pytest.mark.parametrize(
    ("app", "code", "page"),
    [
        (
            EXPRESS,
            {"server.js": "express.static(path.join(__dirname, 'client', 'dist'))"},
            "client",
        ),
        (EXPRESS, {"server.js": 'express.static("client/build")'}, "client"),
        (REQUIREMENTS, {"main.py": f"{FASTAPI}StaticFiles(directory='frontend/dist')"}, "frontend"),
        (REQUIREMENTS, {"app.py": f"{FLASK}x = Path('web') / 'dist'"}, "web"),
        (GO, {"web.go": "package main\n//go:embed ui/dist\n"}, "ui"),
        ({}, {"index.php": "<?php readfile('spa/dist/index.html');"}, "spa"),
    ],
)
def test_page_below_is_built_where_the_app_names_what_its_build_leaves(
    app: dict[str, str], code: dict[str, str], page: str
) -> None:
    made = plan({**app, **code, **at(page, package())})
    assert f"(cd {page} && npm run build)" in (made.build or "")
    assert f"(cd {page} &&\nnpm ci" in (made.install or "")
    assert "Caddy" not in said(made.start)
    assert made.install_inputs == () or made.stack is not Stack.NODE


def test_page_of_a_directory_beside_is_built_from_where_the_app_runs() -> None:
    api = {"app.py": f"{FLASK}static = '../frontend/dist'", "requirements.txt": "flask"}
    settings = {"directoryPath": "backend"}
    made = plan({**at("backend", api), **at("frontend", package())}, **settings)
    assert made.build == "(cd ../frontend && npm run build)"
    assert made.install_inputs == (
        "backend/requirements.txt", "frontend/package-lock.json", "frontend/package.json",
    )  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [
        at("frontend", package()),
        at("ui", {**package(), "vite.config.js": "x = { build: { outDir: '../backend/static' } }"}),
    ],
)
def test_app_that_serves_the_page_beside_it_is_the_one(page: dict[str, str]) -> None:
    api = {"app.py": f"{FLASK}static = '../frontend/dist'", "requirements.txt": "flask"}
    made = plan({**at("backend", api), **page})
    assert (made.directory, made.stack) == ("backend", Stack.PYTHON)
    assert "npm run build" in (made.build or "")


def test_page_that_builds_into_the_app_is_built() -> None:
    config = {
        "vite.config.ts": "export default { build: { outDir: '../static', emptyOutDir: true } }"
    }
    made = plan({"app.py": FLASK, **REQUIREMENTS, **at("page", {**package(), **config})})
    assert made.build == "(cd page && npm run build)"


@pytest.mark.parametrize(
    "scripts",
    [
        {"start": "node server.js", "build": "cd client && npm install && npm run build"},
        {"start": "node server.js", "build": "npm run build --prefix client"},
    ],
)
def test_page_that_the_apps_own_build_makes_is_left_to_it(scripts: dict[str, str]) -> None:
    code = {"server.js": "express.static('client/dist')"}
    made = plan(
        {"package.json": json.dumps({"scripts": scripts}), **code, **at("client", package())}
    )
    assert "cd client && npm run build)" not in (made.build or "")


def parts_left_out(files: dict[str, str], **settings: Any) -> list[str]:
    return [found.path for found in left_out(MemoryTree(files), plan(files, **settings))]


API = {"app.py": FLASK, "requirements.txt": "flask"}


@pytest.mark.parametrize(
    ("files", "directories"),
    [
        ({**at("backend", API), "frontend/index.html": ""}, ["frontend"]),
        ({**at("server", EXPRESS), "server/server.js": "", "public/index.html": ""}, ["server"]),
        ({**at("server", API), "public/index.html": ""}, ["public"]),
        ({**API, "client/index.html": ""}, ["client"]),
        ({**GO, "site/public/index.html": ""}, ["site"]),
        ({"index.html": "", **at("backend", API)}, ["index.html"]),
        ({"index.html": "", **at("one", GO), **at("two", {"Gemfile": ""})}, ["one", "two"]),
        ({**at("web", package()), "web/index.html": "", "go.mod": "", "main.go": "package main\n"},
         ["web"]),
        ({**API, "client/index.html": "", "serve.py": "root = 'client'"}, []),
        ({**at("backend", API), "frontend/index.html": "", "backend/x.py": "'../frontend'"}, []),
        ({**API, "templates/index.html": "", "static/index.html": ""}, []),
        ({**EXPRESS, "server.js": "", "public/index.html": "", "docs/index.html": ""}, []),
        ({"index.html": "", "about/index.html": "", "js/main.js": ""}, []),
    ],
)  # fmt: skip
def test_pages_and_programs_that_the_app_does_not_name_are_told(
    files: dict[str, str], directories: list[str]
) -> None:
    assert parts_left_out(files) == directories


def test_server_beside_ready_pages_is_the_app() -> None:
    files = {**at("backend", API), "public/index.html": ""}
    assert plan(files).directory == "backend"
    for functions in ("api", "functions"):
        assert plan({**at(functions, REQUIREMENTS), "public/index.html": ""}).stack is Stack.STATIC


def test_dockerfile_leaves_nothing_out() -> None:
    docker = {"Dockerfile": "FROM node:20\nWORKDIR /app\nCOPY . .\nCMD node x", "x": ""}
    assert parts_left_out({**docker, "client/index.html": ""}, hasDockerfile=True) == []
