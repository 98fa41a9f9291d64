"""What a start script comes to, and whether visitors can be served by it."""

import json

import pytest

from moorage.planning.node.package_json import PackageJson, command_of, is_development_server
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX


@pytest.mark.parametrize(
    "start",
    [
        "npm run dev",
        "npm run --silent dev -- --host",
        "yarn dev",
        "yarn run dev",
        "pnpm dev",
        "pnpm -s run dev",
        "bun run dev",
        "bun --bun run dev",
        "npm run build && npm run serve",
        "npm run again",
    ],
)
def test_script_is_what_it_runs(start: str) -> None:
    scripts = {"start": start, "dev": "vite", "serve": "vite preview", "again": "npm run dev"}
    assert is_development_server(PackageJson(scripts=scripts))


@pytest.mark.parametrize(
    "start",
    [
        "npx vite",
        "npx --yes vite --port 3000",
        "yarn vite",
        "pnpm exec vite --host",
        "bunx --bun vite",
        "NODE_ENV=production vite",
        "cross-env NODE_OPTIONS='--max-old-space-size=4096 --inspect' webpack serve --open",
        "npx @11ty/eleventy --serve --quiet",
        "eleventy --input=src --serve",
        "vitepress dev docs",
        "rsbuild dev --open",
        "expo start",
        "ng serve web --host 0.0.0.0",
        "next",
        "hexo server",
        "parcel src/index.html",
        "craco start",
    ],
)
def test_development_server_is_known_whatever_runs_it(start: str) -> None:
    assert is_development_server(PackageJson(scripts={"start": start}))


@pytest.mark.parametrize(
    "start",
    [
        "node server.js",
        "next start",
        "npm run serve",
        "npm run dev && node server.js",
        "vite build && node server.js",
        "node --import tsx src/dev.ts",
        "vinxi start",
        "yarn server",
        "parcel build index.html && serve dist",
        "expo-server dist",
    ],
)
def test_what_serves_visitors_is_no_development_server(start: str) -> None:
    scripts = {"start": start, "dev": "vite", "serve": "node server.js"}
    assert not is_development_server(PackageJson(scripts=scripts))


def test_scripts_that_run_one_another_in_a_circle_come_to_nothing() -> None:
    scripts = {"start": "npm run dev", "dev": "yarn start"}
    assert command_of(PackageJson(scripts=scripts), "start") == ""
    assert command_of(PackageJson(scripts=scripts), "other") == ""


@pytest.mark.parametrize(
    "start",
    [
        "npm run" + " -a" * 200_000,
        "A=b " * 200_000,
        "eleventy" + " --serve" * 100_000 + "\n",
        "npm run start " + "x" * 900_000,
    ],
)
def test_scripts_made_to_be_slow_are_judged_in_linear_time(start: str) -> None:
    # Nothing is measured: with one pattern of quadratic cost this takes minutes.
    assert not is_development_server(PackageJson(scripts={"start": start}))


@pytest.mark.parametrize(
    ("scripts", "dependencies", "tool"),
    [
        (
            {"start": "node .", "build": "pnpm run css && pnpm exec vite build"},
            {"vite": "7"},
            "pnpm",
        ),
        ({"start": "yarn serve", "serve": "node index.js"}, {"express": "5"}, "yarn"),
        (
            {"start": "next start", "build": "npm run all", "all": "yarn gen && next build"},
            {"next": "15"},
            "yarn",
        ),
        ({"prestart": "pnpm migrate", "start": "node ."}, {"fastify": "5"}, "pnpm"),
        ({"start": "node .", "postinstall": "bunx prisma generate"}, {"prisma": "6"}, "bun"),
        ({"build": "astro check && pnpm astro build"}, {"astro": "5"}, "pnpm"),
        (
            {"start": "concurrently 'yarn web' 'yarn jobs'"},
            {"koa": "3", "concurrently": "9"},
            "yarn",
        ),
    ],
)
def test_package_manager_that_scripts_run_installs_where_no_lock_file_names_one(
    scripts: dict[str, str], dependencies: dict[str, str], tool: str
) -> None:
    app = json.dumps({"scripts": scripts, "dependencies": dependencies})
    made = make_plan(MemoryTree({"package.json": app, "index.js": ""}), Settings(), TOOLBOX)
    assert f"{tool} install" in (made.install or "")
    assert tool in made.toolchains


def test_package_manager_that_scripts_run_is_there_beside_the_lock_files_own() -> None:
    app = {"scripts": {"build": "pnpm tsc", "start": "node ."}, "dependencies": {"koa": "3"}}
    files = {"package.json": json.dumps(app), "package-lock.json": "{}", "index.js": ""}
    made = make_plan(MemoryTree(files), Settings(), TOOLBOX)
    assert (made.install or "").startswith("npm ci")
    assert "pnpm" in made.toolchains


@pytest.mark.parametrize(
    ("scripts", "added"),
    [
        ({"start": "tsx src/index.ts"}, "tsx@latest"),
        ({"start": "npx ts-node src/index.ts"}, "ts-node@latest"),
        (
            {"build": "rimraf dist && tsc", "start": "node dist/index.js"},
            "rimraf@latest typescript",
        ),
        ({"start": "cross-env NODE_ENV=production node index.js"}, "cross-env@latest"),
        ({"build": "run-s gen css", "gen": "prisma generate", "start": "node ."}, "npm-run-all@"),
        ({"build": "node b.js", "start": "serve -s dist -l $PORT"}, "serve@latest"),
        ({"prestart": "knex migrate:latest", "start": "node ."}, "knex@latest"),
    ],
)
def test_program_that_scripts_run_and_package_json_lacks_is_installed(
    scripts: dict[str, str], added: str
) -> None:
    app = {"scripts": scripts, "dependencies": {"koa": "3"}}
    files = {
        "package.json": json.dumps(app),
        "index.js": "",
        "src/index.ts": "",
        "tsconfig.json": "",
    }
    made = make_plan(MemoryTree(files), Settings(), TOOLBOX)
    assert f"for it in {added}" in (made.install or "")
    own = {**app, "devDependencies": {word.partition("@")[0]: "*" for word in added.split()}}
    made = make_plan(MemoryTree({**files, "package.json": json.dumps(own)}), Settings(), TOOLBOX)
    assert added not in (made.install or "")


def test_script_that_nothing_runs_asks_for_no_package_manager() -> None:
    app = {"scripts": {"release": "pnpm publish", "start": "node ."}, "dependencies": {"koa": "3"}}
    files = {"package.json": json.dumps(app), "index.js": ""}
    made = make_plan(MemoryTree(files), Settings(), TOOLBOX)
    assert (made.install or "").startswith("npm install")
    assert "pnpm" not in made.toolchains


@pytest.mark.parametrize(
    ("name", "start"),
    [("my app.js", "node 'my app.js'"), ("a$(id);b.mjs", "node 'a$(id);b.mjs'")],
)
def test_name_of_a_lone_script_is_one_word_of_its_start(name: str, start: str) -> None:
    text = "import http from 'node:http'\nhttp.createServer().listen(process.env.PORT)\n"
    made = make_plan(MemoryTree({name: text}), Settings(), TOOLBOX)
    assert made.start.removeprefix("exec ") == start
