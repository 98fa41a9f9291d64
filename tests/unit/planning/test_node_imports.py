"""What a Node program imports is installed, and TypeScript is run by what there is."""

import json

import pytest

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.node.app import installed_by
from moorage.planning.node.imports import imported
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

NEWER = Toolbox(host={**TOOLBOX.host, "node": ("24.14.0",)}, store=TOOLBOX.store)
WITHOUT_BUN = Toolbox(host=TOOLBOX.host)


def plan(files: dict[str, str], toolbox: Toolbox = TOOLBOX) -> Plan:
    return make_plan(MemoryTree(files), Settings(), toolbox)


def packages(text: str, **others: str) -> list[str]:
    files = {"server.js": text, **{name.replace("__", "/"): it for name, it in others.items()}}
    return [
        it.removesuffix("@latest")
        for it in imported(Folder(MemoryTree(files)), "server.js").packages
    ]


EXPRESS = """\
const express = require('express');
const path = require('path'), { readFile } = require('node:fs/promises');
require('dotenv').config();
const app = express();
app.use(require('cors')());
app.listen(process.env.PORT);
"""
KOA = """\
import Koa from 'koa'
import Router from "@koa/router"
import http from "http"
import { format } from 'date-fns/format'
const app = new Koa(); http.createServer(app.callback()).listen(3000)
"""
FASTIFY = """\
// const fake = require('left-pad')
const fastify = require("fastify")({ logger: true })
fastify.register(require('@fastify/static'), { root: __dirname })
/* import x from 'nothing' */
fastify.listen({ port: 3000 })
"""
HONO = """\
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { logger } from 'hono/logger'
serve(new Hono())
"""
SOCKETS = """\
const server = require('http').createServer();
const { Server } = require('socket.io');
new Server(server); server.listen(3000);
"""
VIEWS = """\
import express from 'express';
const app = express();
app.set('view engine', 'ejs');
app.get('*', (request, response) => response.render('index'));
app.listen(3000);
"""


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"server.js": EXPRESS}, "cors@latest dotenv@latest express@latest"),
        ({"index.mjs": KOA}, "@koa/router@latest date-fns@latest koa@latest"),
        ({"app.js": FASTIFY}, "@fastify/static@latest fastify@latest"),
        ({"main.js": HONO}, "@hono/node-server@latest hono@latest"),
        ({"api.js": SOCKETS}, "socket.io@latest"),
        ({"src/server.js": EXPRESS}, "cors@latest dotenv@latest express@latest"),
        ({"server.js": VIEWS}, "ejs@latest express@4"),
        (
            {
                "server.js": "import './routes/users.js'; import '@/db'; http.createServer()",
                "routes/users.js": "import pg from 'pg'\nexport { z } from 'zod'\n",
            },
            "pg@latest zod@latest",
        ),
        (
            {"server.js": "const fetch = require('node-fetch'); require('http').createServer()"},
            "node-fetch@2",
        ),
    ],
)
def test_what_a_program_without_a_package_json_imports_is_installed(
    files: dict[str, str], wanted: str
) -> None:
    made = plan(files)
    quiet = "--no-audit --no-fund --loglevel=error"
    assert made.install == f"npm install {quiet} {wanted}"
    assert made.start.startswith("exec node ")
    assert "npm" in made.host_tools


@pytest.mark.parametrize(
    "text",
    [
        "import fs from 'fs'; import 'node:path'; import x from 'fs/promises'",
        "import x from '@/lib/db'\nimport y from '~/y'\nimport z from '#z'",
        "import x from './x.js'; require('../y'); await import('./z')",
        "import type { Request } from 'express'\nimport { type A, type B } from 'zod'",
        "import x from 'bun:sqlite'; import y from 'npm:chalk'; import z from 'https://esm.sh/zod'",
        "// import x from 'x'\n/*\nimport y from 'y'\n*/",
        "try { require('bufferutil') } catch {}",
        "const name = 'x'; require(name); import(`./${name}`)",
    ],
)
def test_what_is_no_package_is_not_installed(text: str) -> None:
    assert packages(text) == []


def test_names_that_tsconfig_gives_to_the_apps_own_files_are_followed_and_no_packages() -> None:
    config = '{"compilerOptions": {"paths": {"@app/*": ["./src/*"], "shared": ["./lib/shared"]}}}'
    text = "import a from '@app/a'; import s from 'shared'; import k from 'koa'"
    found = packages(text, **{"tsconfig.json": config, "src__a.ts": "import p from 'pg'"})
    assert found == ["koa", "pg"]


def test_package_of_an_unknown_owner_is_refused_before_payment() -> None:
    files = {"server.js": "const db = require('@acme/db'); require('http').createServer()"}
    with pytest.raises(PlanNotFound, match=r"server\.js imports @acme/db.*package\.json"):
        plan(files)


@pytest.mark.parametrize(
    ("manager", "lock", "adds"),
    [
        ("npm", {"package-lock.json": "{}"}, "npm install "),
        ("pnpm", {"pnpm-lock.yaml": "lockfileVersion: '9.0'"}, "pnpm add "),
        ("yarn", {"yarn.lock": "# yarn lockfile v1"}, "yarn add "),
        ("bun", {"bun.lock": "{}"}, "bun add "),
        ("npm", {}, "npm install "),
    ],
)
def test_import_that_package_json_lacks_is_added(
    manager: str, lock: dict[str, str], adds: str
) -> None:
    app = {"scripts": {"start": "node server.js"}, "dependencies": {"express": "5", "cors": "2"}}
    made = plan({"package.json": json.dumps(app), "server.js": EXPRESS, **lock})
    assert "for it in dotenv@latest; do" in (made.install or "")
    assert adds in (made.install or "")
    assert any("imports dotenv, which package.json lacks" in it for it in made.because)


def test_packages_that_a_plan_adds_are_added_to_another_install_too() -> None:
    app = {"scripts": {"start": "node server.js"}, "dependencies": {"express": "5", "cors": "2"}}
    made = plan({"package.json": json.dumps(app), "server.js": EXPRESS})
    again = installed_by("npm install --legacy-peer-deps", made.install or "")
    assert again.startswith(
        "(npm install --legacy-peer-deps\n) && { add=; for it in dotenv@latest;"
    )
    assert installed_by("npm install", "npm ci") == "npm install"


def test_import_that_is_declared_is_not_added() -> None:
    app = {"main": "server.js", "dependencies": {"express": "5"}, "devDependencies": {"cors": "2"}}
    named = {**app, "optionalDependencies": {"dotenv": "17"}}
    made = plan({"package.json": json.dumps(named), "server.js": EXPRESS})
    assert "add=" not in (made.install or "")


@pytest.mark.parametrize(
    "files",
    [
        {"server/package.json": '{"dependencies": {"express": "5", "cors": "2", "dotenv": "17"}}'},
        {
            "server/package.json": '{"name": "api", "dependencies": {"express": "5", "cors": "2"}}',
            "shared/package.json": '{"name": "dotenv"}',
        },
    ],
)
def test_import_that_another_package_json_around_declares_is_not_added(
    files: dict[str, str],
) -> None:
    app = {"workspaces": ["server", "shared"], "scripts": {"start": "node server/index.js"}}
    made = plan({"package.json": json.dumps(app), "server/index.js": EXPRESS, **files})
    assert "add=" not in (made.install or "")


@pytest.mark.parametrize("mark", ["var __toESM = (a) => a; __toESM(1)", "__webpack_require__(7)"])
def test_bundle_has_its_packages_in_it(mark: str) -> None:
    text = f"{mark}\nrequire('pg-native'); require('http').createServer()"
    assert plan({"server.js": text}).install is None


def test_package_json_without_dependencies_gets_what_its_program_imports() -> None:
    app = {"type": "module", "scripts": {"start": "node src/app.js"}}
    made = plan({"package.json": json.dumps(app), "src/app.js": KOA})
    assert "for it in @koa/router@latest date-fns@latest koa@latest" in (made.install or "")


@pytest.mark.parametrize(
    "manifest", [{}, {"package.json": '{"scripts": {"start": "node server.js"}}'}]
)
def test_file_that_a_program_imports_and_the_upload_lacks_is_told(manifest: dict[str, str]) -> None:
    text = "const db = require('./config/db'); require('./routes'); require('http').createServer()"
    files = {"server.js": text, "routes/index.js": "", **manifest}
    (risk,) = plan(files).risks or ()
    assert (risk.code, risk.stops) == ("file_absent", "start")
    assert risk.message == "server.js imports ./config/db, which is not in the upload."
    assert not plan({**files, "config/db.json": "{}"}).risks


def test_given_install_command_is_followed_alone() -> None:
    app = json.dumps({"scripts": {"start": "node server.js"}})
    tree = MemoryTree({"package.json": app, "server.js": EXPRESS})
    made = make_plan(tree, Settings(install_command="npm ci"), TOOLBOX)
    assert made.install == "npm ci"


TYPED = """\
import { createServer, type IncomingMessage } from 'node:http'
import { greet } from './greet.ts'
const port: number = Number(process.env.PORT)
createServer((request: IncomingMessage, response) => response.end(greet())).listen(port)
"""
GREET = "export function greet(): string { return 'hello' }\n"
PLAIN = {"index.ts": TYPED, "greet.ts": GREET}


def test_node_that_removes_types_runs_typescript_by_itself() -> None:
    made = plan(PLAIN, NEWER)
    assert (made.install, made.start) == (None, "exec node index.ts")


@pytest.mark.parametrize(
    "files",
    [
        {**PLAIN, "greet.ts": f"enum Color {{ Red }}\n{GREET}"},
        {**PLAIN, "greet.ts": f"namespace A {{ export const a = 1 }}\n{GREET}"},
        {**PLAIN, "greet.ts": f"class A {{ constructor(private a: string) {{}} }}\n{GREET}"},
        {**PLAIN, "index.ts": TYPED.replace("./greet.ts", "./greet")},
        {**PLAIN, "index.ts": TYPED.replace("./greet.ts", "./greet.js")},
        {**PLAIN, "index.ts": TYPED.replace("type Incoming", "Incoming")},
        {**PLAIN, "greet.ts": f"@controller()\nclass A {{}}\n{GREET}"},
    ],
)
def test_typescript_that_needs_more_is_run_by_tsx(files: dict[str, str]) -> None:
    made = plan(files, NEWER)
    assert made.start == "exec node --import tsx index.ts"
    assert (made.install or "").endswith(" tsx@latest && npm pkg set type=module")


@pytest.mark.parametrize(
    "name", ["index.ts", "server.ts", "src/index.ts", "src/server.ts", "api.ts"]
)
def test_older_node_runs_typescript_by_tsx(name: str) -> None:
    made = plan({name: "import express from 'express'\nexpress().listen(3000)\n"})
    assert made.start == f"exec node --import tsx {name}"
    assert " express@latest tsx@latest" in (made.install or "")


@pytest.mark.parametrize(
    ("text", "is_module"),
    [
        ("import Fastify from 'fastify'\nawait Fastify().listen({ port: 3000 })", True),
        ("import Koa from 'koa'\nnew Koa().listen(3000)", True),
        ("import express from 'express'\nexpress.static(__dirname).listen(3000)", False),
        ("import http from 'http'\nconst x = require('x'); http.createServer(x)", False),
        ("const koa = require('koa')\nnew koa().listen(3000)", False),
    ],
)
def test_typescript_that_is_a_module_is_run_as_one(text: str, is_module: bool) -> None:
    assert ("npm pkg set type=module" in (plan({"index.ts": text}).install or "")) == is_module


def test_start_script_for_a_node_that_removes_types_gets_one() -> None:
    app = json.dumps({"type": "module", "scripts": {"start": "node index.ts"}})
    made = plan({"package.json": app, **PLAIN})
    assert made.start == "exec node index.ts"
    assert made.toolchains["node"] == "26.10.0"


def test_start_script_for_a_node_that_removes_types_gets_tsx_where_there_is_none() -> None:
    script = "node --experimental-strip-types index.ts"
    app = json.dumps({"type": "module", "scripts": {"start": script}})
    made = plan({"package.json": app, **PLAIN}, WITHOUT_BUN)
    assert made.start == "exec node --import tsx index.ts"
    assert "tsx@latest" in (made.install or "")


BUN = "Bun.serve({ port: process.env.PORT, fetch() { return new Response('hello') } })\n"


@pytest.mark.parametrize(
    ("files", "start", "install"),
    [
        ({"index.ts": BUN}, "exec bun index.ts", None),
        ({"server.js": BUN}, "exec bun server.js", None),
        (
            {"index.ts": f"import {{ Database }} from 'bun:sqlite'\n{BUN}"},
            "exec bun index.ts",
            None,
        ),
        (
            {"index.ts": "import { Hono } from 'hono'\nconst it = new Hono()\nexport default it"},
            "exec bun index.ts",
            "bun add hono@latest",
        ),
        (
            {"src/index.ts": "export default { fetch(it: Request) { return new Response('') } }"},
            "exec bun src/index.ts",
            None,
        ),
        (
            {"package.json": '{"module": "index.ts", "type": "module"}', "index.ts": BUN},
            "exec bun index.ts",
            None,
        ),
    ],
)
def test_program_for_bun_is_run_by_it(
    files: dict[str, str], start: str, install: str | None
) -> None:
    made = plan(files)
    assert (made.start, made.install) == (start, install)
    assert "bun" in made.toolchains


@pytest.mark.parametrize("files", [{"index.ts": BUN}, {"package.json": "{}", "server.ts": BUN}])
def test_program_for_bun_is_refused_where_there_is_none(files: dict[str, str]) -> None:
    with pytest.raises(RuntimeUnsupported, match="it uses Bun, but this gateway has no bun"):
        plan(files, WITHOUT_BUN)


@pytest.mark.parametrize(
    "text",
    [
        "Deno.serve(() => new Response('hi'))",
        "import { Hono } from 'jsr:@hono/hono'\nDeno.serve(f)",
    ],
)
def test_program_for_deno_is_run_by_it(text: str) -> None:
    made = plan({"main.ts": text})
    assert (made.stack, made.start) == (Stack.DENO, "exec deno run --allow-all main.ts")
    with pytest.raises(RuntimeUnsupported, match="no deno"):
        plan({"main.ts": text}, WITHOUT_BUN)


def test_imports_are_read_in_bounded_time() -> None:
    hostile = "import " * 10_000 + "import" + " " * 50_000 + "{a,\n" * 20_000 + "type " * 10_000
    # Nothing is measured: one that tries each beginning to the end takes minutes.
    assert packages(hostile) == []
