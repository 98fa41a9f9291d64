"""Languages whose toolchains this machine need not have, on a gateway that has them."""

from typing import Any

import msgspec
import pytest

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.languages import php
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING

JAVA = "package shop;\npublic class Main { public static void main(String[] a) {} }\n"
ROUTER = (
    f"cat > \"$TMPDIR/router.php\" <<'ROUTER'\n{php.ROUTER}ROUTER\n"
    "exec php -d display_errors=0 -d log_errors=1 -S 0.0.0.0:$PORT"
)
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
                'cargo build --release --locked --bin shop --target-dir "$TMPDIR/target" && '
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
                "composer.json": '{"require": {"php": "^8.2", "slim/slim": "4"}}',
                "public/index.php": "",
                "artisan": "",
            },
            Stack.PHP,
            "composer install --no-dev --no-interaction --optimize-autoloader",
            None,
            f'{ROUTER} -t public "$TMPDIR/router.php"',
        ),
        (
            {"main.go": "package main\n"},
            Stack.GO,
            "go mod init app && go mod tidy",
            'go build -ldflags="-w -s" -o .bin/app .',
            "exec ./.bin/app",
        ),
        (
            {"app.rb": "require 'sinatra'\n", "Gemfile": 'gem "sinatra"'},
            Stack.RUBY,
            "bundle install",
            None,
            "exec bundle exec ruby app.rb",
        ),
        (
            {"config.ru": "", "Gemfile": 'gem "sinatra"\ngem "puma"'},
            Stack.RUBY,
            "bundle install",
            None,
            "exec bundle exec puma --bind tcp://0.0.0.0:$PORT",
        ),
        (
            {"config.ru": "", "Gemfile": 'gem "puma"\ngem "rackup"'},
            Stack.RUBY,
            "bundle install",
            None,
            "exec bundle exec rackup --host 0.0.0.0 --port $PORT",
        ),
        (
            {"server.rb": "require 'socket'\n"},
            Stack.RUBY,
            None,
            None,
            "exec ruby server.rb",
        ),
        (
            {"src/shop/Main.java": JAVA, "src/shop/Other.java": "package shop;", "lib/x.jar": ""},
            Stack.JAVA,
            None,
            ("javac -encoding UTF-8 -d .bin -cp src:'lib/*' -sourcepath src src/shop/Main.java"),
            "exec java $JAVA_OPTS -cp .bin:src:'lib/*' shop.Main",
        ),
        (
            {"Hello.java": "class Hello { static void main(String[] a) {} }"},
            Stack.JAVA,
            None,
            "javac -encoding UTF-8 -d .bin -cp . -sourcepath . Hello.java",
            "exec java $JAVA_OPTS -cp .bin:. Hello",
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
        ({"app.rb": "", "Gemfile": "ruby '4.2.1'"}, {}, "the Gemfile's ruby"),
        ({"app.rb": "", "Gemfile": "ruby '~> 3.3.9'"}, {}, "the Gemfile's ruby"),
        (
            {"app.rb": "", "Gemfile": "ruby file: '.ruby-version'", ".ruby-version": "3.1.0"},
            {},
            ".ruby-version",
        ),
        ({"index.php": "", "composer.json": '{"php": "^7.4"}'}, {}, "composer.json's php"),
    ],
)
def test_other_version_is_refused(
    files: dict[str, str], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(files, **settings)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "asked",
    ["'3.3.8'", "'~> 3.1'", "'~> 3.3.0'", "'>= 3.1', '< 4'", '"~> 3" # any', "RUBY_VERSION"],
)
def test_ruby_of_the_gemfile_is_understood_as_bundler_does(asked: str) -> None:
    assert plan({"app.rb": "", "Gemfile": f"ruby {asked}\n"}).stack is Stack.RUBY


def test_machines_ruby_without_bundler_is_refused_for_a_gemfile() -> None:
    host = {name: versions for name, versions in EVERYTHING.host.items() if name != "bundler"}
    with pytest.raises(RuntimeUnsupported, match="bundler"):
        make_plan(MemoryTree({"app.rb": "", "Gemfile": ""}), Settings(), Toolbox(host=host))


def test_machines_java_without_a_compiler_is_refused() -> None:
    host = {name: versions for name, versions in EVERYTHING.host.items() if name != "javac"}
    with pytest.raises(RuntimeUnsupported, match="javac"):
        make_plan(MemoryTree({"Main.java": JAVA[14:]}), Settings(), Toolbox(host=host))


@pytest.mark.parametrize(
    ("others", "stack"),
    [
        ({"package.json": '{"scripts": {"start": "node x.js"}}'}, Stack.NODE),
        ({"requirements.txt": "", "app.py": ""}, Stack.PYTHON),
    ],
)
@pytest.mark.parametrize(
    "part",
    [
        {"src/shop/Main.java": JAVA},
        {"android/Main.java": JAVA[14:]},
        {"app.rb": "require 'socket'"},
    ],
)
def test_single_source_of_another_language_takes_no_app_over(
    others: dict[str, str], stack: Stack, part: dict[str, str]
) -> None:
    assert plan({**others, **part}).stack is stack


def test_class_is_named_by_its_package_or_not_taken() -> None:
    with pytest.raises(PlanNotFound):
        plan({"src/elsewhere/Main.java": JAVA})


def test_files_of_a_language_decide_nothing_where_a_start_is_given() -> None:
    made = plan({**MAIN, "package.json": "{}"}, runCommand="./start.sh", framework="node")
    assert made.stack is Stack.NODE


@pytest.mark.parametrize(
    ("files", "package"),
    [
        (("cmd/main.go",), "./cmd"),
        (("cmd/migrate/main.go", "cmd/server/main.go"), "./cmd/server"),
        (("cmd/seed/main.go", "main.go"), "."),
        (("cmd/my app/main.go",), "'./cmd/my app'"),
        (("server/main.go", "tools/gen/main.go"), "./server"),
        (("tools/gen/main.go",), None),
    ],
)
def test_main_package_is_the_likeliest_to_be_a_server(
    files: tuple[str, ...], package: str | None
) -> None:
    tree = {"go.mod": "module x\n", **dict.fromkeys(files, "package main\n")}
    if package is None:
        with pytest.raises(PlanNotFound, match="there is no package main"):
            plan(tree)
    else:
        assert plan(tree).build == f'go build -ldflags="-w -s" -o .bin/app {package}'


TWO_BINS = '[[bin]]\nname = "seed"\n[[bin]]\nname = "web"\n'


@pytest.mark.parametrize(
    ("files", "binary"),
    [
        ({"Cargo.toml": f'[package]\nname = "x"\ndefault-run = "web"\n{TWO_BINS}'}, "web"),
        ({"Cargo.toml": f'[package]\nname = "x"\n{TWO_BINS}'}, "seed"),
        (
            {
                "Cargo.toml": '[workspace]\nmembers = ["crates/*"]',
                "crates/api/Cargo.toml": '[package]\nname = "api"',
                "crates/api/src/main.rs": "",
                "crates/core/Cargo.toml": '[package]\nname = "core"',
                "crates/core/src/lib.rs": "",
            },
            "api",
        ),
    ],
)
def test_binary_is_the_one_that_cargo_would_run(files: dict[str, str], binary: str) -> None:
    made = plan(files)
    assert made.start == f"exec ./.bin/{binary}"
    assert made.build is not None
    assert f"--bin {binary} " in made.build


def test_workspace_with_several_binaries_is_refused() -> None:
    member = {"Cargo.toml": '[package]\nname = "{}"', "src/main.rs": ""}
    files = {
        f"{name}/{file}": text.replace("{}", name)
        for name in ("a", "b")
        for file, text in member.items()
    }
    with pytest.raises(PlanNotFound):
        plan({"Cargo.toml": '[workspace]\nmembers = ["a", "b"]', **files})


def test_program_of_a_go_workspace_is_built() -> None:
    files = {
        "go.work": "go 1.22\nuse (\n\t./lib\n\t./server\n)",
        "lib/go.mod": "module lib", "lib/lib.go": "package lib",
        "server/go.mod": "module server", "server/main.go": "package main",
    }  # fmt: skip
    made = make_plan(MemoryTree(files), Settings(), EVERYTHING)
    assert (made.stack, made.directory) == (Stack.GO, "")
    assert made.build == 'go build -ldflags="-w -s" -o .bin/app ./server'


@pytest.mark.parametrize(
    ("composer", "installs"),
    [
        ('{"require": {"php": ">=8", "ext-json": "*"}}', False),
        ('{"require": {"php": ">=8", "slim/slim": "4"}}', True),
        ('{"require": {"php": ">=8"}, "autoload": {"psr-4": {"A": "src/"}}}', True),
        ("{}", False),
        ("[", True),
    ],
)
def test_composer_is_needed_for_packages_alone(composer: str, installs: bool) -> None:
    files = {"index.php": "", "composer.json": composer}
    toolbox = Toolbox(host={"php": ("8.4.16",)})
    if installs:
        with pytest.raises(RuntimeUnsupported, match="composer is needed"):
            make_plan(MemoryTree(files), Settings(), toolbox)
    else:
        assert make_plan(MemoryTree(files), Settings(), toolbox).install is None
