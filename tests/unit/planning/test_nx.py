"""Apps of Nx workspaces: what their projects say is built and started."""

import json
from typing import Any

import pytest

from moorage.errors import PlanNotFound
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

ROOT = {
    "package.json": json.dumps({"scripts": {}, "devDependencies": {"nx": "21.4.1"}}),
    "nx.json": json.dumps({"plugins": [{"plugin": "@nx/vite/plugin"}, "@nx/webpack/plugin"]}),
}


def project(name: str, executor: str = "", **options: Any) -> str:
    build = {"build": {"executor": executor, "options": options}} if executor else {}
    return json.dumps({"name": name, "projectType": "application", "targets": build})


def plan(files: dict[str, str], directory: str | None = None) -> Plan:
    settings = Settings(directory_path=directory)
    return make_plan(MemoryTree({**ROOT, **files}), settings, TOOLBOX)


@pytest.mark.parametrize(
    ("files", "start"),
    [
        (
            {
                "apps/api/project.json": project(
                    "api", "@nx/webpack:webpack", target="node", outputPath="dist/apps/api"
                )
            },
            "exec node dist/apps/api/main.js",
        ),
        (
            {
                "apps/api/project.json": project(
                    "api",
                    "@nx/esbuild:esbuild",
                    outputPath="dist/{projectRoot}",
                    main="apps/api/src/main.ts",
                    format=["cjs"],
                    esbuildOptions={"outExtension": {".js": ".js"}},
                )
            },
            "exec node dist/apps/api/main.js",
        ),
        (
            {
                "apps/api/project.json": project(
                    "api", "@nx/esbuild:esbuild", main="apps/api/src/server.ts", format=["cjs"]
                )
            },
            "exec node dist/apps/api/server.cjs",
        ),
        (
            {
                "apps/api/project.json": project(
                    "api", "@nx/js:tsc", outputPath="dist/api", main="apps/api/src/main.ts"
                )
            },
            "exec node dist/api/src/main.js",
        ),
        (
            {"apps/web/project.json": project("web", "@nx/next:build")},
            "exec next start dist/apps/web --port $PORT",
        ),
        (
            {
                "apps/web/project.json": project(
                    "web", "@angular/build:application", outputPath="dist/apps/web"
                )
            },
            "serves dist/apps/web/browser/ by Caddy, index.html for what is no file",
        ),
        (
            {
                "apps/web/project.json": project(
                    "web", "@nx/angular:application", outputPath="dist/web", outputMode="server"
                )
            },
            "exec node dist/web/server/server.mjs",
        ),
        (
            {"apps/web/project.json": project("web", "@nx/vite:build", outputPath="dist/apps/web")},
            "serves dist/apps/web/ by Caddy, index.html for what is no file",
        ),
        (
            {
                "apps/web/project.json": project("web"),
                "apps/web/vite.config.ts": "export default { build: { outDir: '../../dist/web' } }",
                "apps/web/index.html": "",
            },
            "serves dist/web/ by Caddy, index.html for what is no file",
        ),
        (
            {
                "apps/api/project.json": project("api"),
                "apps/api/webpack.config.js": "module.exports = { output: { path: "
                "join(__dirname, '../../dist/apps/api') }, plugins: [new X({ target: 'node' })] }",
                "apps/api/src/main.ts": "import express from 'express'\nexpress().listen(3000)",
            },
            "exec node dist/apps/api/main.js",
        ),
        (
            {
                "project.json": project("shop"),
                "vite.config.ts": "export default { build: { outDir: './dist/shop' } }",
                "index.html": "",
            },
            "serves dist/shop/ by Caddy, index.html for what is no file",
        ),
    ],
)
def test_app_of_nx_is_started_from_where_its_build_leaves_it(
    files: dict[str, str], start: str
) -> None:
    made = plan(files)
    name = json.loads(next(text for file, text in files.items() if file.endswith("t.json")))["name"]
    assert made.build == f"nx build {name}"
    assert said(made.start) == start
    assert made.directory == ""
    assert made.build_env["NX_DAEMON"] == "false"


BOTH = {
    "apps/api/project.json": project("api", "@nx/webpack:webpack", target="node"),
    "apps/web/project.json": project("web", "@nx/vite:build", outputPath="dist/apps/web"),
    "apps/web-e2e/project.json": project("web-e2e", "@nx/playwright:playwright"),
    "libs/ui/project.json": json.dumps({"name": "ui", "projectType": "library"}),
}


def test_several_apps_are_named_and_the_directory_chooses() -> None:
    with pytest.raises(PlanNotFound, match=r"several apps \(apps/api, apps/web\)"):
        plan(BOTH)
    assert plan(BOTH, "apps/api").start == "exec node dist/apps/api/main.js"
    assert plan(BOTH, "apps/web").build == "nx build web"


def test_script_that_serves_a_project_names_the_app() -> None:
    app = json.dumps({"scripts": {"start": "nx serve api"}, "devDependencies": {"nx": "21.4.1"}})
    assert plan({**BOTH, "package.json": app}).build == "nx build api"


def test_scripts_of_the_root_that_start_the_app_go_first() -> None:
    scripts = {"start": "node dist/apps/api/main.js", "build": "nx build api"}
    made = plan({**BOTH, "package.json": json.dumps({"scripts": scripts})})
    assert (made.build, made.start) == ("npm run build", "exec node dist/apps/api/main.js")


def test_build_whose_output_is_unknown_is_refused_with_the_settings_that_help() -> None:
    files = {"apps/api/project.json": project("api", "@acme/own:build")}
    with pytest.raises(PlanNotFound, match=r"nx build api.*settings\.runCommand"):
        plan(files)
