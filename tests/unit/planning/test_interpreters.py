"""A given start command whose language the machine lacks is refused before anybody pays."""

import pytest

from memory_tree import MemoryTree
from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from toolboxes import EVERYTHING, TOOLBOX

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
