"""Languages whose toolchains this machine need not have, on a gateway that has them."""

from typing import Any

import msgspec
import pytest

from memory_tree import MemoryTree
from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from toolboxes import EVERYTHING

MAIN = {"go.mod": "module x\n\ngo 1.22\n", "cmd/server/main.go": "// hi\npackage main\n"}


def plan(files: dict[str, str], **settings: Any) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), EVERYTHING)


@pytest.mark.parametrize(
    ("files", "stack", "install", "build", "start"),
    [
        (
            MAIN,
            Stack.GO,
            "go mod download",
            'go build -ldflags="-w -s" -o .bin/app ./cmd/server',
            "exec ./.bin/app",
        ),
        (
            {"Cargo.toml": "[package]\nname = 'shop'", "src/main.rs": "", "Cargo.lock": ""},
            Stack.RUST,
            None,
            (
                'cargo build --release --locked --target-dir "$TMPDIR/target" && '
                'install -D "$TMPDIR/target"/release/shop .bin/shop'
            ),
            "exec ./.bin/shop",
        ),
        (
            {"build.gradle": "java { toolchain { languageVersion = JavaLanguageVersion.of(17) } }"},
            Stack.JAVA,
            None,
            "gradle --no-daemon -q build -x test",
            (
                'exec java $JAVA_OPTS -Dserver.port="$PORT" -jar '
                '"$(ls -S build/libs/*.jar | head -n 1)"'
            ),
        ),
        (
            {"Gemfile": "", "config.ru": ""},
            Stack.RUBY,
            "bundle install",
            None,
            "exec bundle exec rackup --host 0.0.0.0 --port $PORT",
        ),
        (
            {
                "composer.json": '{"require": {"php": "^8.2"}}',
                "public/index.php": "",
                "artisan": "",
            },
            Stack.PHP,
            "composer install --no-dev --no-interaction --optimize-autoloader",
            None,
            "exec php -S 0.0.0.0:$PORT -t public public/index.php",
        ),
    ],
)
def test_stack_is_planned(
    files: dict[str, str], stack: Stack, install: str | None, build: str | None, start: str
) -> None:
    made = plan(files)
    assert (made.stack, made.install, made.build, made.start) == (stack, install, build, start)


@pytest.mark.parametrize(
    ("files", "settings", "field"),
    [
        ({**MAIN, "go.mod": "module x\ngo 1.99"}, {}, "go.mod"),
        (MAIN, {"runtime": "golang:1.21"}, "settings.runtime"),
        ({"index.php": "", "composer.json": '{"php": "^7.4"}'}, {}, "composer.json's php"),
    ],
)
def test_other_version_is_refused(
    files: dict[str, str], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(files, **settings)
    assert refused.value.field == field


def test_files_of_a_language_decide_nothing_where_a_start_is_given() -> None:
    made = plan({**MAIN, "package.json": "{}"}, runCommand="./start.sh", framework="node")
    assert made.stack is Stack.NODE
