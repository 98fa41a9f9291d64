"""A given start command whose language the machine lacks is refused before anybody pays."""

import pytest

from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING, TOOLBOX

SCRIPT = {"serve.sh": "#!/bin/sh"}


@pytest.mark.parametrize(
    ("command", "language"),
    [
        ("ruby app.rb", "ruby"),
        ("bundle exec puma -C config/puma.rb", "ruby"),
        ("bin/rails server -p $PORT", "ruby"),
        ("A=1 exec rackup", "ruby"),
        ("cd web && php -S 0.0.0.0:$PORT", "php"),
        ("vendor/bin/heroku-php-apache2 web/", "php"),
        ("./prepare; mix phx.server", "elixir"),
        ("dotnet app.dll", "dotnet"),
        ("go run .", "go"),
        ("./prepare || Rscript app.R", "r"),
    ],
)
def test_start_in_a_language_that_lacks_is_refused(command: str, language: str) -> None:
    for files, settings, field in (
        ({**SCRIPT, "Procfile": f"web: {command}"}, Settings(), "Procfile"),
        (SCRIPT, Settings(run_command=command), "settings.runCommand"),
    ):
        with pytest.raises(RuntimeUnsupported, match=f"no {language}") as refused:
            make_plan(MemoryTree(files), settings, TOOLBOX)
        assert refused.value.field == field


@pytest.mark.parametrize(
    "command",
    ["./serve.sh", "echo ruby php", "node index.js", "python -m http.server", "sh -c 'x'"],
)
def test_other_starts_are_planned(command: str) -> None:
    made = make_plan(MemoryTree(SCRIPT), Settings(run_command=command), TOOLBOX)
    assert made.start.endswith(command)


def test_language_of_the_machine_passes_and_is_named() -> None:
    settings = Settings(run_command="php -S 0.0.0.0:$PORT")
    made = make_plan(MemoryTree(SCRIPT), settings, EVERYTHING)
    assert made.host_tools["php"] == "8.4.16"


def test_language_of_the_operators_store_is_on_the_path() -> None:
    toolbox = Toolbox(host=TOOLBOX.host, store={"ruby": ("3.4.1",)})
    made = make_plan(MemoryTree(SCRIPT), Settings(run_command="ruby app.rb"), toolbox)
    assert made.toolchains == {"ruby": "3.4.1"}


def test_program_that_a_package_brings_passes() -> None:
    files = {"package.json": '{"dependencies": {"bun": "1"}}', "x.ts": ""}
    toolbox = Toolbox(host=TOOLBOX.host)
    made = make_plan(MemoryTree(files), Settings(run_command="bun x.ts"), toolbox)
    assert made.start == "exec bun x.ts"


GO = {
    "go.mod": "module github.com/heroku/go-getting-started\n\ngo 1.22\n",
    "main.go": "package main\n",
}
CARGO = {"Cargo.toml": '[package]\nname = "shop"\n', "src/main.rs": ""}


@pytest.mark.parametrize(
    ("files", "line", "build", "start"),
    [
        (
            GO,
            "bin/go-getting-started",
            "-o bin/go-getting-started .",
            "exec bin/go-getting-started",
        ),
        (GO, "./bin/web -port $PORT", "-o bin/web .", "exec ./bin/web -port $PORT"),
        (
            GO,
            "go-getting-started",
            "-o .bin/go-getting-started .",
            'PATH="$PWD/.bin:$PATH"\nexec go-g',
        ),
        (
            {**GO, "cmd/api/main.go": "package main\n"},
            "bin/migrate && bin/api",
            '-o bin/migrate . && go build -ldflags="-w -s" -o bin/api ./cmd/api',
            "bin/migrate && bin/api",
        ),
        (
            {
                "go.mod": "module shop\n",
                "cmd/worker/main.go": "package main\n",
                "cmd/web/main.go": "package main\n",
            },
            "web serve",
            "-o .bin/web ./cmd/web",
            'PATH="$PWD/.bin:$PATH"\nexec web serve',
        ),
        (
            CARGO,
            "./target/release/shop",
            "/release/shop target/release/shop",
            "exec ./target/release/shop",
        ),
        (
            CARGO,
            "ROCKET_PORT=$PORT ./bin/shop",
            "/release/shop bin/shop",
            "ROCKET_PORT=$PORT ./bin/shop",
        ),
    ],
)
def test_program_that_a_procfile_starts_is_what_the_stack_builds(
    files: dict[str, str], line: str, build: str, start: str
) -> None:
    made = make_plan(MemoryTree({**files, "Procfile": f"web: {line}\n"}), Settings(), EVERYTHING)
    assert (made.build or "").endswith(build)
    assert start in made.start


@pytest.mark.parametrize(
    ("files", "line", "language"),
    [
        (GO, "bin/go-getting-started", "go"),
        ({"Package.swift": ""}, ".build/release/Run serve", "swift"),
        ({"shop.csproj": ""}, "./out/shop", "dotnet"),
        ({"stack.yaml": ""}, "./bin/shop", "haskell"),
        ({"shard.yml": ""}, "./bin/shop --port $PORT", "crystal"),
        ({"build.zig": ""}, "./zig-out/bin/shop", "zig"),
        ({"mix.exs": ""}, "_build/prod/rel/shop/bin/shop start", "elixir"),
    ],
)
def test_program_of_a_language_that_lacks_is_refused_before_payment(
    files: dict[str, str], line: str, language: str
) -> None:
    with pytest.raises(RuntimeUnsupported, match=f"has no {language}") as refused:
        make_plan(MemoryTree({**files, "Procfile": f"web: {line}\n"}), Settings(), TOOLBOX)
    assert refused.value.field == "Procfile"


@pytest.mark.parametrize("line", ["bin/web", "./start.sh", "exec ./server --port $PORT"])
@pytest.mark.parametrize("files", [{"index.html": ""}, {"requirements.txt": "flask"}, {}])
def test_program_that_no_step_makes_is_refused_before_payment(
    files: dict[str, str], line: str
) -> None:
    tree = MemoryTree({**files, "README.md": "", "Procfile": f"web: {line}\n"})
    with pytest.raises(RuntimeUnsupported, match="is not in the upload, and which no step here"):
        make_plan(tree, Settings(), EVERYTHING)
    made = make_plan(tree, Settings(build_command="make"), EVERYTHING)
    assert line.removeprefix("exec ") in made.start


@pytest.mark.parametrize(
    "line",
    [
        "./node_modules/.bin/next start",
        ".venv/bin/gunicorn app:app",
        "vendor/bin/serve",
        "cd api && ./run",
        "/usr/bin/env node x.js",
        "./serve.sh",
    ],
)
def test_program_that_is_there_or_that_packages_bring_is_started(line: str) -> None:
    files = {**SCRIPT, "package.json": "{}", "Procfile": f"web: {line}\n"}
    assert line in make_plan(MemoryTree(files), Settings(), TOOLBOX).start
