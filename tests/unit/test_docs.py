"""Documents stay true: commands, settings, codes and sums in them are those of the code."""

import json
import re
import runpy
import shlex
import tomllib
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from cyclopts import MissingArgumentError

from moorage import __version__
from moorage.address import parse_address
from moorage.api.http import problems
from moorage.api.http.problems import PROBLEMS, Problem
from moorage.api.operations import OPERATIONS
from moorage.chains.chain import ChainSettings
from moorage.cli.flags import setting_flags
from moorage.cli.help import build_app
from moorage.cli.main import OPERATOR, all_commands
from moorage.errors import FailureCause, InvalidRequest
from moorage.gateway import duplicate_gateway_check, vital_signs
from moorage.gateway.configuration import serving_chains
from moorage.ledger.running_costs import HOUR_MS, charge_up_to
from moorage.metrics import exposition
from moorage.money import MicroUsd
from moorage.planning import plan
from moorage.planning.explicit import asked
from moorage.records.event import EventKind
from moorage.routing.pages import PAGES
from moorage.settings import Settings, load_settings, tables
from moorage.uploads.request import deploy_request

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = {
    path: path.read_text()
    for path in (*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md")))
}
SOURCE = "\n".join(path.read_text() for path in (REPOSITORY / "src").rglob("*.py"))
TESTS = {path: path.read_text() for path in (REPOSITORY / "tests").rglob("*.py")}

NO_SETTINGS = (
    "GATEWAY",
    "PRIVATE_KEY",
    "RPC_URL_",
    "STATE_DIR",
    "TEST_",
    "BOUND_SIGNATURES",
    "ON_BEHALF_OF",
    "BUDGET_USD",
    "MAX_USD_PER_CALL",
    "CRASH_AT",
)
OPERATORS_PATHS = {"/ready", "/metrics", "/certificate"}


def document(name: str) -> str:
    return DOCUMENTS[REPOSITORY / name]


def section(name: str, title: str) -> str:
    """A document's part under a heading, up to the next of that level."""
    _, _, rest = document(name).partition(f"\n## {title}\n")
    assert rest, f"{name} has no section {title!r}"
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a text's table rows, headings left out; code marks are taken off."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set("".join(row)) <= set("-:")}
    return [
        [cell.strip("`") for cell in row]
        for index, row in enumerate(cells)
        if index not in heads and index - 1 not in heads
    ]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_and_named_files_exist(path: Path) -> None:
    text = DOCUMENTS[path]
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|md|js|mjs|sol|json|toml))`", text)
    roots = (REPOSITORY, REPOSITORY / "src/moorage")
    made_later = {"bench/RESULTS.md", "data_dir/proxy/caddy.log"}
    missing = [name for name in named if not any((root / name).exists() for root in roots)]
    assert set(missing) - made_later == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_headings_that_exist(path: Path) -> None:
    links = re.findall(r"\]\(((?!https?://)[^)#]*)#([^)]+)\)", DOCUMENTS[path])
    lost = [
        (name, anchor)
        for name, anchor in links
        if anchor not in headings((path.parent / name).resolve() if name else path)
    ]
    assert lost == []


def headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as they are made where it is shown."""
    titles = re.findall(r"^#+ (.+)$", DOCUMENTS.get(path, ""), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_test_that_is_named_exists() -> None:
    known = {path.name for path in TESTS}
    known |= {name for text in TESTS.values() for name in re.findall(r"def (test_\w+)", text)}
    named = {
        name
        for text in DOCUMENTS.values()
        for name in re.findall(r"`(?:[\w/]+/)?(test_\w+(?:\.py)?)`", text)
    }
    assert named
    assert named - known == set()


def test_every_command_that_is_named_exists() -> None:
    commands = {command.name for command in all_commands()} | {OPERATOR}
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for path, text in DOCUMENTS.items():
        named = re.findall(r"(?:`|\.venv/bin/|bin/)moorage ((?:operator )?[a-z][a-z-]*)", text)
        assert set(named) <= commands, path
        assert set(re.findall(r"(?:`|^|&& )make ([a-z]+)", text, re.MULTILINE)) <= targets, path
    readme = document("README.md")
    assert "make dev" in readme
    assert ".venv/bin/moorage deploy examples/hello-node --name hello" in readme
    assert "make test" in readme


def test_every_option_that_is_named_with_a_command_exists() -> None:
    app = build_app()
    for text in DOCUMENTS.values():
        named = re.findall(r"(?:`|^(?:\S*bin/)?)(moorage [^`\n#|>;&$\\]+)", text, re.MULTILINE)
        for line in named:
            with suppress(MissingArgumentError):  # it may be named without its arguments
                app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_every_endpoint_that_is_named_exists() -> None:
    served = {(operation.method, operation.path) for operation in OPERATIONS}
    served |= {("GET", path) for path in (*OPERATORS_PATHS, "/openapi.json", "/")}
    named = {
        match
        for text in DOCUMENTS.values()
        for match in re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[\w/{}.]*)", text)
    }
    assert ("POST", "/agent/deploy") in named
    assert named - served == set()


def test_every_name_in_the_architecture_exists() -> None:
    tokens = re.findall(r"`([A-Za-z_][\w.]*)`", document("docs/inside/architecture.md"))
    words = set(re.findall(r"\w+", SOURCE))
    names = [token for token in tokens if not (REPOSITORY / token).exists()]
    assert len(names) > 40
    assert [name for name in names if not set(name.strip(".").split(".")) <= words] == []


def test_documents_hold_no_more_words_than_somebody_reads() -> None:
    pages = [text for path, text in DOCUMENTS.items() if path.is_relative_to(REPOSITORY / "docs")]
    assert len(pages) > 30
    assert sum(len(text.split()) for text in pages) <= 40_000


def test_table_of_users_pages_names_each() -> None:
    named = re.findall(r"^\| \[[^\]]+\]\((.+)\)", document("docs/use/README.md"), re.MULTILINE)
    assert {*named, "README.md"} == {path.name for path in REPOSITORY.glob("docs/use/*.md")}


def test_readme_is_short_with_one_picture_of_the_flow_and_one_of_a_page() -> None:
    readme = document("README.md")
    assert readme.count("\n") <= 90
    assert readme.count("```mermaid") == 1
    assert len(re.findall(r"!\[", readme)) == 1


# Settings


def settings_tables() -> str:
    made = runpy.run_path(str(REPOSITORY / "scripts/settings-table.py"))
    return str(made["settings_tables"]())


def listed_settings() -> list[tuple[str, str, str]]:
    """Each setting's name, default and meaning, as a reader finds them."""
    return re.findall(r"^- \*\*`(\w+)`\*\* \(`(.*?)`\): (.+)$", settings_tables(), re.MULTILINE)


def test_every_setting_is_documented_with_its_true_default_and_nothing_else_is() -> None:
    shown = section("docs/run/configure.md", "Settings")
    assert shown.endswith(settings_tables())  # made by scripts/settings-table.py


def test_tables_of_settings_say_what_the_settings_say() -> None:
    told = {name: default for name, default, _ in listed_settings()}
    defaults = json.loads(msgspec.json.encode(Settings()))
    expected = {name: defaults[name] for name in tables()}
    assert {name: json.loads(text) for name, text in told.items()} == expected


def test_example_in_a_document_stands_in_the_right_tables() -> None:
    settings = {field.name for field in msgspec.structs.fields(Settings)}
    book = [text for path, text in DOCUMENTS.items() if path.parent.name == "run"]
    examples = [example for text in book for example in fenced(text, "toml")]
    assert len(examples) > 5
    for example in examples:
        for table, keys in tomllib.loads(example).items():
            told = keys if isinstance(keys, dict) else {table: keys}
            here = table if isinstance(keys, dict) else ""
            named = {key: tables()[key] for key in told if key in settings}
            assert set(named.values()) <= {here}, example


def test_every_key_of_a_chain_is_documented() -> None:
    keys = {field.name for field in msgspec.structs.fields(ChainSettings)}
    told = re.findall(
        r"^- \*\*`(\w+)`\*\*", section("docs/run/configure.md", "Chains"), re.MULTILINE
    )
    assert set(told) == keys


def test_file_of_the_first_day_serves_with_the_settings_that_are_marked(tmp_path: Path) -> None:
    (example,) = fenced(section("docs/run/first-day.md", "Configure"), "toml")
    marked = {name for name, _, text in listed_settings() if text.startswith("**First.**")}
    written = tomllib.loads(example)
    top = {name for name, value in written.items() if name == "chains" or not is_table(value)}
    assert top | {key for name in written.keys() - top for key in written[name]} == marked
    assert len(marked) == 8
    file = tmp_path / "moorage.toml"
    file.write_text(example)
    settings = load_settings(file=file, environ={})
    assert set(serving_chains(settings)) == {"arbitrum", "base"}
    assert parse_address(settings.pay_to)
    assert settings.tls
    assert settings.public_url.startswith("https://")
    assert settings.operator_port != 0


def is_table(value: object) -> bool:
    return isinstance(value, dict)


def test_first_day_is_short() -> None:
    page = document("docs/run/first-day.md")
    assert len(page.split()) <= 900
    assert sum(len(block.splitlines()) for block in fenced(page, "sh")) == 6


def test_every_variable_that_is_named_is_one() -> None:
    known = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    named = {name for text in DOCUMENTS.values() for name in re.findall(r"MOORAGE_([A-Z_]+)", text)}
    assert {name for name in named - known if not name.startswith(NO_SETTINGS)} == set()


def test_every_metric_is_documented() -> None:
    assert vital_signs.EVERY_SECONDS  # metrics are there once their modules are imported
    assert duplicate_gateway_check.ASK_SECONDS
    families = set(re.findall(r"^# TYPE (moorage_\w+)", exposition()[0].decode(), re.MULTILINE))
    told = set(re.findall(r"`(moorage_\w+)`", section("docs/run/watch.md", "Watch")))
    assert told == families - {name for name in families if name.endswith("_created")}


# Codes


def answered() -> dict[str, tuple[int, bool]]:
    """Every code that an answer may carry, with status and retryable."""
    others = [value for value in vars(problems).values() if isinstance(value, Problem)]
    return {row.code: (row.status, row.retryable) for row in (*PROBLEMS.values(), *others)}


def test_settings_of_a_deploy_are_documented_with_their_flags_defaults_and_rules() -> None:
    shown = rows(section("docs/use/configuration.md", "Settings of a deploy"))
    told = {name: msgspec.json.decode(default) for name, _, default, *_ in shown}
    assert told == msgspec.to_builtins(plan.Settings())
    assert {name: flag for name, flag, *_ in shown if flag} == dict(setting_flags())
    for name, _, _, _, taken, refused in shown:
        check_settings(name, taken)
        with pytest.raises(InvalidRequest) as error:
            check_settings(name, refused)
        assert str(error.value).startswith(f"settings.{name}")


def check_settings(name: str, value: str) -> None:
    """As a deploy's are checked; `value` is JSON."""
    document = {
        "uniqueName": "hello",
        "displayName": "Hello",
        "settings": {name: msgspec.json.decode(value)},
    }
    asked(deploy_request(document).settings)


def test_every_code_is_documented_with_status_and_retryable() -> None:
    told = {
        code: (int(status), {"retry": True, "": False}[retry.strip()])
        for code, cell, _money, _advice in rows(
            document("docs/use/errors.md").partition("\n## ")[0]
        )
        for status, _, retry in [cell.partition(",")]
    }
    assert told == answered()


def test_every_event_is_documented() -> None:
    told = set(re.findall(r"`([a-z]+\.[a-z_]+)`", document("docs/use/webhooks.md")))
    assert {kind.value for kind in EventKind} - told == set()


def test_every_cause_of_failure_is_documented() -> None:
    told = {row[0] for row in rows(section("docs/use/errors.md", "Failed deployments"))}
    assert told == {*FailureCause, "out_of_credits", "no_capacity"}


def test_every_answer_in_an_apps_place_is_documented() -> None:
    told = {
        (code, int(status))
        for code, status, _ in rows(section("docs/use/errors.md", "At an app's own address"))
    }
    pages = {(page.code, page.status) for page in PAGES.values()}
    others = {("state_unavailable", 503), ("gateway_unavailable", 503), ("host_missing", 400)}
    assert told == pages | others


# Sums


def test_worked_example_of_burning_is_what_is_charged() -> None:
    shown = rows(section("docs/use/credits.md", "What an app burns"))
    assert len(shown) == 6
    before = 0
    for elapsed, charged, booked in shown:
        elapsed_ms = round(float(elapsed.removesuffix(" h")) * HOUR_MS)
        total = charge_up_to(elapsed_ms, monthly_price=MicroUsd(500_000))
        assert total == int(charged)
        if booked:
            assert total - before == int(booked)
        before = total


def test_worked_price_is_the_default_one() -> None:
    settings = Settings()
    month = settings.size_list.default.month
    assert month == settings.minimum_charge_micro_usd == 500_000
    assert "**$0.50 a\nmonth**" in document("docs/use/credits.md")


def test_changelog_has_this_version() -> None:
    assert re.search(rf"^## .*\b{re.escape(__version__)}$", document("CHANGELOG.md"), re.MULTILINE)


def test_license_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text()[:200]
    assert "Apache-2.0" in document("README.md")
    assert (REPOSITORY / "src/moorage/py.typed").exists()
