"""What was written for other hosts: run where it can be, else refused or told before payment."""

import json

import pytest

from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

WITHOUT_BUN = Toolbox(host=TOOLBOX.host)


def plan(files: dict[str, str], **build_vars: str) -> Plan:
    return make_plan(MemoryTree(files), Settings(build_vars=build_vars), TOOLBOX)


PLAIN = "export default { async fetch(request, env) { return new Response(env.GREETING) } }\n"
HONO = "import { Hono } from 'hono'\nconst app = new Hono()\nexport default app\n"
ITTY = (
    "import { AutoRouter } from 'itty-router'\nconst router = AutoRouter()\nexport default router\n"
)
NAMED = "const worker = { fetch: () => new Response('') }\nexport { worker as default }\n"
TOML = 'name = "it"\nmain = "src/index.ts"\ncompatibility_date = "2026-01-01"\n'
PACKAGE = {
    "scripts": {"start": "wrangler dev", "deploy": "wrangler deploy"},
    "dependencies": {"hono": "^4.0.0"},
    "devDependencies": {"wrangler": "^4.0.0"},
}


@pytest.mark.parametrize(
    ("files", "install"),
    [
        ({"wrangler.toml": TOML, "src/index.ts": PLAIN}, ""),
        ({"wrangler.toml": TOML, "src/index.ts": HONO}, "hono@latest"),
        ({"wrangler.toml": TOML, "src/index.ts": ITTY}, "itty-router@latest"),
        ({"wrangler.jsonc": '{"main": "src/index.ts", /* it */ }', "src/index.ts": NAMED}, ""),
        (
            {
                "wrangler.toml": TOML,
                "src/index.ts": HONO,
                "package.json": json.dumps(PACKAGE),
            },
            "bun install",
        ),
        (
            {
                "wrangler.json": '{"main": "./src/index.ts"}',
                "src/index.ts": PLAIN,
                "package.json": json.dumps({"scripts": {"build": "wrangler deploy --dry-run"}}),
            },
            "",
        ),
    ],
)
def test_worker_without_bindings_is_served_by_bun(files: dict[str, str], install: str) -> None:
    made = plan(files)
    assert 'import worker from "./src/index.ts"' in made.start
    assert made.start.startswith("exec bun -e ")
    assert install in (made.install or "")
    assert "bun" in made.toolchains


def test_worker_is_served_beside_its_assets_if_they_are_in_the_upload() -> None:
    assets = '[assets]\ndirectory = "./public"\nbinding = "FILES"\n'
    files = {"src/index.ts": PLAIN, "public/index.html": ""}
    start = plan({**files, "wrangler.toml": TOML + assets}).start
    assert 'Bun.file("./public" + name)' in start
    assert '"FILES": { fetch' in start
    assert "(await file(request, isPage(request))) ?? worker.fetch" in start
    last = plan({**files, "wrangler.toml": f"{TOML}{assets}run_worker_first = true\n"}).start
    assert "?? worker.fetch" not in last
    both = f'{TOML}{assets}[[d1_databases]]\nbinding = "DB"\n'
    with pytest.raises(RuntimeUnsupported, match="d1_databases"):
        plan({**files, "wrangler.toml": both})


def test_workers_variables_are_the_apps() -> None:
    vars_ = '[vars]\nGREETING = "hello"\nLIMIT = 5\n"not-a-name" = "x"\n'
    made = plan({"wrangler.toml": TOML + vars_, "src/index.ts": PLAIN})
    assert made.run_env == {"GREETING": "hello"}


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ('[[kv_namespaces]]\nbinding = "KV"\nid = "1"', "kv_namespaces.*SQLite on a volume"),
        ('[[d1_databases]]\nbinding = "DB"', "d1_databases.*SQLite on a volume"),
        ('[[r2_buckets]]\nbinding = "B"', "r2_buckets.*files on a volume"),
        ('[durable_objects]\nbindings = [{ name = "A", class_name = "B" }]', "durable_objects"),
        ('[ai]\nbinding = "AI"', "ai.*model's API"),
        ('[assets]\ndirectory = "public"', "assets.*server of files"),
    ],
)
def test_worker_with_what_only_cloudflare_has_is_refused_before_payment(
    binding: str, said: str
) -> None:
    with pytest.raises(RuntimeUnsupported, match=said) as refused:
        plan({"wrangler.toml": f"{TOML}{binding}\n", "src/index.ts": PLAIN})
    assert refused.value.field == "wrangler.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("addEventListener('fetch', (event) => event.respondWith(x))", "exports no fetch"),
        (
            "import { DurableObject } from 'cloudflare:workers'\nexport default {}",
            "only Cloudflare",
        ),
        ("export default class extends WorkerEntrypoint { fetch() {} }", "only Cloudflare"),
    ],
)
def test_worker_of_another_shape_is_refused_before_payment(text: str, said: str) -> None:
    with pytest.raises(RuntimeUnsupported, match=said):
        plan({"wrangler.toml": TOML, "src/index.ts": text})


def test_worker_is_refused_where_there_is_no_bun() -> None:
    tree = MemoryTree({"wrangler.toml": TOML, "src/index.ts": PLAIN})
    with pytest.raises(RuntimeUnsupported, match="this gateway has no bun"):
        make_plan(tree, Settings(), WITHOUT_BUN)


@pytest.mark.parametrize(
    "package",
    [
        {"scripts": {"start": "node server.js"}},
        {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}},
        {"scripts": {"build": "next build"}, "dependencies": {"next": "15"}},
    ],
)
def test_app_that_runs_elsewhere_too_is_no_worker(package: dict[str, object]) -> None:
    files = {"wrangler.toml": TOML, "src/index.ts": PLAIN}
    made = plan({**files, "package.json": json.dumps(package)})
    assert "worker.fetch" not in made.start


PAGE = {"index.html": "<p>hello"}
VITE = {
    "index.html": "",
    "package.json": json.dumps({"scripts": {"build": "vite build"}, "dependencies": {"vite": "6"}}),
}


@pytest.mark.parametrize("pages", [PAGE, VITE, {"public/index.html": ""}])
@pytest.mark.parametrize(
    ("path", "text", "host"),
    [
        ("api/hello.js", "export default function handler(req, res) { res.send('') }", "Vercel"),
        ("api/users/[id].ts", "export async function GET(request: Request) {}", "Vercel"),
        ("api/old.js", "module.exports = (req, res) => res.json({})", "Vercel"),
        ("netlify/functions/mail.mjs", "export default async (request) => {}", "Netlify"),
        ("netlify/functions/x.js", "exports.handler = async (event) => ({})", "Netlify"),
        ("functions/count.js", "export function onRequestGet(context) {}", "Cloudflare Pages"),
        ("functions/x.js", "export const onRequest = async ({ env }) => {}", "Cloudflare Pages"),
    ],
)
def test_function_beside_pages_is_told_not_to_run(
    pages: dict[str, str], path: str, text: str, host: str
) -> None:
    made = plan({**pages, path: text})
    (told,) = made.risks or ()
    assert told.message.startswith(f"{path} is a function of {host}, which does not run here")


@pytest.mark.parametrize(
    "text", ["export const users = () => fetch('/users')", "export default axios.create({})"]
)
def test_module_of_a_page_is_no_function(text: str) -> None:
    made = plan({**PAGE, "api/client.js": text})
    assert not made.risks


@pytest.mark.parametrize(
    ("package", "source", "variable"),
    [
        ("vite", "src/api.ts", "import.meta.env.VITE_API_URL"),
        ("next", "app/page.tsx", "process.env.NEXT_PUBLIC_API_URL"),
        ("react-scripts", "src/App.js", "process.env.REACT_APP_API_URL"),
        ("astro", "src/pages/index.astro", "import.meta.env.PUBLIC_API_URL"),
        ("gatsby", "src/pages/index.js", "process.env.GATSBY_API_URL"),
        ("@vue/cli-service", "src/main.js", "process.env.VUE_APP_API_URL"),
    ],
)
def test_variable_that_the_build_reads_and_nothing_sets_is_told(
    package: str, source: str, variable: str
) -> None:
    app = {"scripts": {"build": "build"}, "dependencies": {package: "*"}}
    files = {"package.json": json.dumps(app), source: f"fetch({variable})", "public/x": ""}
    name = variable.rpartition(".")[2]
    (risk,) = plan(files).risks or ()
    assert (risk.code, risk.path, risk.variables) == ("variable_unset", source, (name,))
    assert "settings.buildVars" in risk.message
    for made in (
        plan({**files, ".env": f"{name}=https://x\n"}),
        plan({**files, ".env.production": f"export {name} = 'https://x'\n"}),
        plan({**files, source: f"fetch({variable} ?? '/api')"}),
        plan({**files, source: f"  // as in fetch({variable})"}),
        plan(files, **{name: "https://x"}),
    ):
        assert not made.risks
