import json

import msgspec
import pytest
from msgspec import UNSET

from moorage.errors import InvalidField, PlanNotFound, RuntimeUnsupported, UploadInvalid
from moorage.planning.plan import Plan, PlannedSchedule, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.records.project import Kind
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

HELLO = {
    "index.js": "require('http').createServer().listen(process.env.PORT)",
    "package.json": '{"scripts": {"start": "node index.js"}}',
    "README.md": "hello",
}


def plan(files: dict[str, str], settings: Settings | None = None) -> Plan:
    return make_plan(MemoryTree(files), settings or Settings(), TOOLBOX)


def test_plain_node_app_is_planned_from_its_manifest_and_the_file_it_starts() -> None:
    tree = MemoryTree(HELLO)
    made = make_plan(tree, Settings(), TOOLBOX)
    assert (made.stack, made.install, made.build) == (Stack.NODE, None, None)
    assert made.start == "exec node index.js"
    assert {*tree.files_read} == {"package.json", "index.js"}


def test_large_upload_is_read_within_bounds() -> None:
    files = {f"pkg{n % 50}/mod{n}.py": "def f(): return 1\n" * 99 for n in range(5000)}
    tree = MemoryTree(files)
    with pytest.raises(PlanNotFound):
        make_plan(tree, Settings(), TOOLBOX)
    assert len(tree.files_read) <= 400


def test_digest_is_that_of_the_content() -> None:
    assert plan(HELLO).digest == plan(dict(reversed(HELLO.items()))).digest
    assert plan(HELLO, Settings(port=8080)).digest != plan(HELLO).digest


def test_nothing_to_run_says_what_was_looked_for() -> None:
    with pytest.raises(PlanNotFound) as refused:
        plan({"notes.md": ""})
    assert refused.value.looked_for[-1] == "settings.runCommand"
    assert any("requirements.txt" in item for item in refused.value.looked_for)
    assert "settings.runCommand" in refused.value.message


JAVA = {"java": ("17.0.21",), "javac": ("17.0.21",)}


@pytest.mark.parametrize(
    ("file", "beside", "lacks"),
    [
        ("go.mod", {"main.go": "package main"}, "no go"),
        ("composer.json", {"index.php": "<?php"}, "no php"),
        ("Gemfile", {"config.ru": ""}, "no ruby"),
        ("build.gradle", {}, "no gradle"),
        ("package.json", {"pnpm-lock.yaml": ""}, "no pnpm"),
        ("deno.json", {"main.ts": ""}, "no deno"),
    ],
)
def test_what_the_gateway_lacks_is_said(file: str, beside: dict[str, str], lacks: str) -> None:
    bare = Toolbox(host={"node": ("20.20.2",), "npm": ("11.19.1",), **JAVA})
    with pytest.raises(RuntimeUnsupported, match=f"this gateway has {lacks}"):
        make_plan(MemoryTree({file: "{}" if "json" in file else "", **beside}), Settings(), bare)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"scripts": []}', '{"scripts": {"a": null}}', '{"dependencies": "x"}'),
        *("\ud800", '{"scripts": {"start": "\\ud800"}}', '{"scripts": {"start": "a\\u0000"}}'),
        *('{"x": ' + "[" * 200_000, "{}" + " " * 1_048_576),
    ],
)
def test_package_json_that_cannot_be_read_is_named(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    with pytest.raises(UploadInvalid) as refused:
        make_plan(MemoryTree({"web/package.json": data}), Settings(directory_path="web"), TOOLBOX)
    assert refused.value.path == "web/package.json"


@pytest.mark.parametrize(
    "data", [b"web: \xff", b"web: a\0b", b"web: " + b"x" * 4097, b"#" * 65_537]
)
def test_procfile_that_cannot_be_followed_is_named(data: bytes) -> None:
    with pytest.raises(UploadInvalid) as refused:
        make_plan(MemoryTree({"Procfile": data}), Settings(), TOOLBOX)
    assert refused.value.path == "Procfile"


def test_procfile_with_a_worker_alone_is_a_workers() -> None:
    files = {**HELLO, "Procfile": "worker: node w.js\nrelease: node up.js\n"}
    made = plan(files)
    assert (made.kind, made.start, made.release) == (Kind.WORKER, "exec node w.js", "node up.js")
    web = plan(files, Settings(kind=Kind.WEB))
    assert (web.kind, web.start) == (UNSET, "exec node index.js")


def test_other_processes_of_a_procfile_decide_nothing() -> None:
    made = plan({**HELLO, "Procfile": "dev: node w.js\n"})
    assert (made.kind, made.start, made.release) == (UNSET, "exec node index.js", UNSET)


def test_worker_that_is_asked_for_is_the_procfiles() -> None:
    files = {**HELLO, "Procfile": "web: node index.js\nworker: node w.js\n"}
    made = plan(files, Settings(kind=Kind.WORKER))
    assert (made.kind, made.start, made.risks) == (Kind.WORKER, "exec node w.js", UNSET)
    assert "the Procfile's worker line: node w.js" in made.because


RELEASES = {
    "Procfile": "web: node index.js\nrelease: node up.js\n",
    "fly.toml": '[deploy]\nrelease_command = "node up.js"\n',
    "heroku.yml": "release:\n  command:\n    - node up.js\n",
    "railway.json": '{"deploy": {"preDeployCommand": ["node up.js"]}}',
    "render.yaml": "services:\n  - type: web\n    preDeployCommand: node up.js\n",
}


@pytest.mark.parametrize("file", RELEASES)
def test_release_step_of_a_file_runs_once_unless_the_settings_have_one(file: str) -> None:
    assert plan(HELLO, Settings(release_command="node mine.js")).release == "node mine.js"
    files = {**HELLO, file: RELEASES[file]}
    assert (plan(files).release, plan(files).start) == ("node up.js", "exec node index.js")
    assert plan(files, Settings(release_command="node mine.js")).release == "node mine.js"
    assert plan(files, Settings(release_command="")).release is UNSET
    assert plan(files, Settings(run_command="node other.js")).release is UNSET


def test_release_step_of_a_site_is_left_out() -> None:
    files = {"index.html": "<p>", "fly.toml": RELEASES["fly.toml"]}
    assert plan(files).release is UNSET


def test_program_without_a_port_is_planned_as_a_worker() -> None:
    files = {"bot.py": "import discord\n", "requirements.txt": "discord.py\n"}
    made = plan(files, Settings(kind=Kind.WORKER))
    assert made.start.endswith("python bot.py")


def test_migrations_are_suggested_as_a_release_command_and_left_to_one() -> None:
    files = {
        "manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')",
        "shop/wsgi.py": "",
        "shop/settings.py": "",
        "requirements.txt": "django",
    }
    by_itself = plan(files)
    assert by_itself.start.startswith(".venv/bin/python manage.py migrate --noinput\nexec ")
    assert by_itself.release is UNSET
    assert (
        "settings.releaseCommand would run this once, and not before each start: "
        ".venv/bin/python manage.py migrate --noinput"
    ) in by_itself.because
    asked = plan(files, Settings(release_command="python manage.py migrate"))
    assert asked.start == by_itself.start.partition("\n")[2]
    other = plan(files, Settings(release_command="python manage.py shell"))
    assert other.start == by_itself.start


def test_worker_that_is_to_sleep_is_refused() -> None:
    with pytest.raises(InvalidField) as refused:
        plan(HELLO, Settings(kind=Kind.WORKER, sleep_after_seconds=600))
    assert refused.value.field == "settings.sleepAfterSeconds"


@pytest.mark.parametrize("files", [HELLO, {"Dockerfile": "FROM node:20\nCMD node w.js\n"}])
def test_worker_that_is_to_be_requested_by_the_clock_is_refused(files: dict[str, str]) -> None:
    by_command = PlannedSchedule(name="sum", cron="0 3 * * *", command="node sum.js")
    by_path = PlannedSchedule(name="ask", cron="0 3 * * *", path="/ask")
    settings = Settings(
        kind=Kind.WORKER, schedules=[by_command, by_path], has_dockerfile="Dockerfile" in files
    )
    toolbox = msgspec.structs.replace(TOOLBOX, dockerfiles=Dockerfiles.BUILT)
    with pytest.raises(InvalidField) as refused:
        make_plan(MemoryTree(files), settings, toolbox)
    assert refused.value.field == "settings.schedules.1.path"


def test_site_is_no_worker() -> None:
    with pytest.raises(InvalidField) as refused:
        plan({"index.html": "<p>"}, Settings(kind=Kind.WORKER))
    assert refused.value.field == "settings.kind"


@pytest.mark.parametrize(
    "source",
    [
        '"\\"' * 80_000 + "FastAPI(",
        '\\"""' * 60_000 + "FastAPI(",
        "'" * 250_000 + "\nFastAPI(",
        "def create_app((((\n" * 13_000 + "FastAPI(",
        "app: " + "a" * 250_000 + "\nx=NotFastAPI(",
        "FastAPI" + " " * 250_000,
    ],
)
def test_sources_made_to_be_slow_are_scanned_in_linear_time(source: str) -> None:
    # Nothing is measured: with one pattern of quadratic cost this takes minutes.
    assert plan({"only.py": source}).start == "exec python3.13 ./only.py"


def test_start_script_with_npms_own_variables_runs_by_npm() -> None:
    manifest = {"scripts": {"start": "node server.js $npm_package_version"}}
    assert plan({"package.json": json.dumps(manifest)}).start == "exec npm run --silent start"


@pytest.mark.parametrize("script", ["vite", "react-scripts start", "vite --port 3000", "next dev"])
def test_development_server_serves_where_there_is_no_build(script: str) -> None:
    manifest = {"scripts": {"start": script}, "dependencies": {"vite": "7"}}
    assert plan({"package.json": json.dumps(manifest)}).start == f"exec {script}"


@pytest.mark.parametrize("lock", ["package-lock.json", "npm-shrinkwrap.json"])
def test_lock_file_is_installed_exactly(lock: str) -> None:
    install = plan({**HELLO, lock: "{}"}).install
    assert install is not None
    assert install.startswith("npm ci ")


@pytest.mark.parametrize("name", ["dependencies", "devDependencies", "optionalDependencies"])
def test_any_dependency_is_installed(name: str) -> None:
    manifest = {"scripts": {"start": "node a.js"}, name: {"x": "1"}}
    install = plan({"package.json": json.dumps(manifest)}).install
    assert install is not None
    assert install.startswith("npm install ")
