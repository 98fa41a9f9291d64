"""What is said of a failed deployment beside its reason."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from counted import Counter, hostile, tree

from moorage.hosting.work.failure import explain, known_failures
from moorage.planning.plan import Risk, RiskCode, Stops
from moorage.uploads.request import deploy_settings

TRACEBACK = "Traceback (most recent call last):\n"


def last_error(log: str) -> str:
    """What is quoted of a log that explains nothing."""
    return explain("interrupted", "", log).reason.removeprefix(". Its log: ")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("starting\nlistening", "listening"),
        ("a\nTypeError: x is not a function\n    at index.js:3\n\nNode.js v22.1.0\n",
         "TypeError: x is not a function"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'KEY'\n", "KeyError: 'KEY'"),
        ("npm error 404 Not Found - GET x\nnpm error A complete log of this run is in: y\n",
         "npm error 404 Not Found - GET x"),
        ("a.c:1: error: no such file\nmake: *** [all] Error 1\n", "a.c:1: error: no such file"),
        ("\x1b[31mError: boom\x1b[0m\nbye\n", "Error: boom"),
        ("Error: " + "x" * 1_000, "Error: " + "x" * 293),
        (f'{TRACEBACK}  File "/app/a.py", line 3\n  File "/app/.venv/x.py", line 9\nBad: two\n',
         "Bad: two (in a.py, line 3)"),
        ("Error: boom\n    at x (/app/node_modules/x.js:1:1)\n    at /app/b.js:7:2\n",
         "Error: boom (in b.js, line 7)"),
    ],
)  # fmt: skip
def test_last_line_that_tells_of_an_error_is_found(log: str, line: str) -> None:
    assert last_error(log) == line


LAST_WORDS = Path(__file__).with_name("last_words")  # as the programs named there printed them
REASONS = {
    "caddy-port-in-use": "loading initial config: loading new config: http app module: start: "
    "listening on :34569: listen tcp :34569: bind: address already in use",
    "node-cause": "Error: bad configuration (in cause.js, line 1)",
    "node-import": "SyntaxError: The requested module 'node:fs' does not provide an export named "
    "'nothing' (in esm.mjs, line 1)",
    "node-module-missing": "Error: Cannot find module 'express' (in missing.js, line 1)",
    "node-no-connection": "Error: connect ECONNREFUSED 127.0.0.1:5",
    "node-own-fields": "Error: quota is used up (in props.js, line 1)",
    "node-port-in-use": "Error: listen EADDRINUSE: address already in use :::34567 "
    "(in inuse.js, line 1)",
    "node-rejected": "Error: connect to the database first (in reject.js, line 1)",
    "node-rejected-object": "UnhandledPromiseRejection: This error originated either by throwing "
    "inside of an async function without a catch block, or by rejecting a promise which was not "
    'handled with .catch(). The promise rejected with the reason "#<Object>".',
    "node-syntax": "SyntaxError: Unexpected token ';' (in syntax.js, line 3)",
    "node-told-and-ended": "Error: could not load config",
    "npm-no-json": "npm error JSON.parse Invalid package.json: JSONParseError: Unexpected end of "
    'JSON input while parsing near "...\\"dependencies\\":{\\"a\\":\\n"',
    "npm-no-lock": "npm error The `npm ci` command can only install with an existing "
    "package-lock.json or",
    "npm-no-script": 'npm error Missing script: "nothere"',
    "npm-no-vite": "sh: 1: vite: not found",
    "php-throw": "PHP Fatal error:  Uncaught RuntimeException: no settings in /app/p.php:1",
    "python-cause": "RuntimeError: could not read the settings (in chain.py, line 4)",
    "python-exit": "no DATABASE_URL: set it in the environment",
    "python-key": "KeyError: 'DATABASE_URL' (in trace.py, line 2)",
    "python-no-module": "/usr/bin/python3: No module named nothere",
    "python-own-exception": "Bad: two (in multi.py, line 2)",
    "python-port-in-use": "OSError: [Errno 98] Address already in use (in inuse.py, line 3)",
    "python-syntax": "SyntaxError: invalid syntax (in syn.py, line 1)",
    "ruby-raise": "r.rb:1:in `go': no settings (RuntimeError)",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in LAST_WORDS.iterdir()))
def test_reason_is_the_line_that_holds_the_error(name: str) -> None:
    assert last_error((LAST_WORDS / f"{name}.log").read_text()) == REASONS[name]


SEEN: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("seen_failures.toml").read_text()
)


def test_each_known_failure_was_seen() -> None:
    assert [each.name for each in known_failures()] == list(SEEN)


@pytest.mark.parametrize("name", SEEN)
def test_known_failure_is_told_from_its_log(name: str) -> None:
    seen = SEEN[name]
    found = explain(seen["code"], "The install failed.", seen["log"])
    assert (found.name, found.advice.next_settings) == (name, seen.get("settings", {}))
    said, _, line = found.reason.partition(" Its log: ")
    assert said.startswith("The install failed. ")
    assert seen["says"] in said
    assert line.endswith(seen["line"])


@pytest.mark.parametrize("name", [name for name in SEEN if "settings" in SEEN[name]])
def test_what_may_help_can_be_sent_as_it_is(name: str) -> None:
    found = explain(SEEN[name]["code"], "It failed.", SEEN[name]["log"])
    deploy_settings(found.advice.next_settings)
    for key in found.advice.next_settings:
        assert f"settings.{key}" in found.advice.next_actions[0]


def test_known_failure_is_told_in_sentences() -> None:
    told = [sentence for known in known_failures() for sentence in (known.cause, known.action)]
    assert [each for each in told if not each.endswith((".", ".)")) or len(each) > 200] == []


@pytest.mark.parametrize(
    ("code", "variables"), [("build_failed", "buildVars"), ("crashed", "runEnvs")]
)
def test_variable_is_sent_where_it_is_missing(code: str, variables: str) -> None:
    action = explain(code, "It failed.", "KeyError: 'STRIPE_KEY'").advice.next_actions[0]
    assert action == f"Send STRIPE_KEY in settings.{variables}."


@pytest.mark.parametrize(
    "words", ["is needed", "is not provided", "is unset", "has to be given", "must be set"]
)
def test_variable_that_an_app_asks_for_in_its_own_words_is_named(words: str) -> None:
    log = f"/app/server.js:4\nError: MAIL_KEY {words}\n    at /app/server.js:4:17\n"
    action = explain("crashed", "It failed.", log).advice.next_actions[0]
    assert action == "Send MAIL_KEY in settings.runEnvs."


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("flask_cors", "Add flask-cors to"),
        ("cv2", "Add opencv-python-headless to"),
        ("nobody_knows", "Add what brings nobody_knows to"),
    ],
)
def test_package_that_brings_a_module_is_named(module: str, package: str) -> None:
    log = f"ModuleNotFoundError: No module named '{module}'"
    assert explain("crashed", "It failed.", log).advice.next_actions[0].startswith(package)


def test_setting_is_made_of_plain_words_of_a_log_alone() -> None:
    """What a dependency prints must not become a command of somebody who sends it."""
    log = 'Unknown file extension ".ts" for /app/a.ts'
    assert explain("crashed", "", log).advice.next_settings == {"runCommand": "npx -y tsx a.ts"}
    engine = SEEN["npm-engine"]["log"].replace("fresh@1.0.0", "a;b")
    assert explain("install_failed", "", engine).advice.next_settings == {"runtime": "node:22"}


def test_long_log_is_read_from_its_end() -> None:
    """In bounded time: dependencies choose what a log says."""
    assert explain("crashed", "", "KeyError: 'EARLY_KEY'\n" + "\n" * 60_000).name == ""
    assert explain("crashed", "", "\n" * 60_000 + "KeyError: 'LATE_KEY'").name != ""


@pytest.mark.parametrize("known", known_failures(), ids=lambda known: known.name)
def test_pattern_takes_steps_in_proportion_to_a_hostile_log(known: Any) -> None:
    """Twice the text takes about twice the steps: dependencies choose what a log says."""
    nodes = tree(known.pattern)
    steps = Counter(nodes)
    for half, whole in zip(hostile(nodes, 700), hostile(nodes, 1_400), strict=True):
        assert steps.search(whole) <= 2.5 * steps.search(half)


def test_steps_of_a_pattern_that_backtracks_are_counted() -> None:
    nodes = tree("x[^y]*[^z]*q")
    half, whole = (max(map(Counter(nodes).search, hostile(nodes, n))) for n in (100, 200))
    assert whole > 3.5 * half


def test_latest_failure_is_the_one_that_is_told() -> None:
    warned = "redis: connect ECONNREFUSED 127.0.0.1:6379\nKeyError: 'STRIPE_KEY'\n"
    assert explain("crashed", "", warned).name == "python-environment"


def test_failure_that_an_app_survived_is_not_the_one_it_ended_of() -> None:
    survived = "redis: connect ECONNREFUSED 127.0.0.1:6379\n" + "GET / 200\n" * 50
    found = explain("crashed", "It ended.", f"{survived}Error: the plan is wrong\n")
    assert (found.name, found.reason) == ("", "It ended. Its log: Error: the plan is wrong")


def test_warning_of_peer_dependencies_is_no_failure() -> None:
    log = SEEN["npm-peer-dependencies"]["log"].replace("npm error", "npm warn")
    assert explain("install_failed", "", f"{log}npm error boom").name == ""


@pytest.mark.parametrize("code", ["superseded", "cancelled", "interrupted", "no_capacity"])
def test_log_does_not_explain_what_the_app_has_not_done(code: str) -> None:
    found = explain(code, "It ended.", "KeyError: 'STRIPE_KEY'")
    assert (found.name, found.advice.next_settings) == ("", {})


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("$ npm install --no-audit --loglevel=error\n", ""),
        ("what was not found\n$ npm ci\nnpm error boom\n", "npm error boom"),
        ("$ npm ci\nCANCELLED: `npm ci` was ended\n", ""),
        ("$ yarn run build\n$ vite build\nbroken config\n", "broken config"),
    ],
)  # fmt: skip
def test_line_of_the_gateways_own_is_never_the_reason(log: str, line: str) -> None:
    assert last_error(log) == line


@pytest.mark.parametrize(
    ("cause", "named"),
    [
        ("port_not_bound", "variable PORT"),
        ("unhealthy", "settings.healthPath"),
        ("out_of_memory", "memory"),
        ("superseded", "took its place"),
    ],
)
def test_causes_have_advice(cause: str, named: str) -> None:
    assert named in explain(cause, "It failed.", "").advice.next_actions[0]


def test_what_the_plan_warned_of_comes_first_where_the_log_does_not_tell() -> None:
    later = Risk(RiskCode.SERVICE_ABSENT, Stops.REQUESTS, "It calls a service.")
    warned = Risk(RiskCode.VARIABLE_UNSET, Stops.START, "server.js insists on MONGO_URI: send it.")

    def first(cause: str, log: str) -> str:
        return explain(cause, "It failed.", log, [later, warned]).advice.next_actions[0]

    assert first("crashed", "bye\n") == warned.message
    assert first("crashed", "KeyError: 'STRIPE_KEY'") != warned.message
    assert first("superseded", "") != warned.message


@pytest.mark.parametrize("cause", ["crashed", "build_failed", "interrupted", "cancelled", None])
def test_failed_deployment_may_be_deployed_again_for_nothing(cause: str | None) -> None:
    last = explain(cause, "It failed.", "anything").advice.next_actions[-1]
    assert "same uniqueName" in last
    assert "free" in last


def test_log_with_nothing_but_the_end_of_npms_error_is_quoted_by_its_last_line() -> None:
    log = "npm error code E404\nnpm error A complete log of this run can be found in: /x.log"
    assert explain("install_failed", "The install failed.", log).reason.startswith(
        "The install failed. Its log: npm error"
    )
