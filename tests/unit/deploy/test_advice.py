"""What is said of a failed deployment beside its reason."""

from pathlib import Path

import pytest

from moorage.deploy.work.advice import last_error, next_actions


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
    ],
)  # fmt: skip
def test_last_line_that_tells_of_an_error_is_found(log: str, line: str) -> None:
    assert last_error(log) == line


LAST_WORDS = Path(__file__).with_name("last_words")  # as the programs named there printed them
REASONS = {
    "caddy-port-in-use": "loading initial config: loading new config: http app module: start: "
    "listening on :34569: listen tcp :34569: bind: address already in use",
    "node-cause": "Error: bad configuration",
    "node-import": "SyntaxError: The requested module 'node:fs' does not provide an export named "
    "'nothing'",
    "node-module-missing": "Error: Cannot find module 'express'",
    "node-no-connection": "Error: connect ECONNREFUSED 127.0.0.1:5",
    "node-own-fields": "Error: quota is used up",
    "node-port-in-use": "Error: listen EADDRINUSE: address already in use :::34567",
    "node-rejected": "Error: connect to the database first",
    "node-rejected-object": "UnhandledPromiseRejection: This error originated either by throwing "
    "inside of an async function without a catch block, or by rejecting a promise which was not "
    'handled with .catch(). The promise rejected with the reason "#<Object>".',
    "node-syntax": "SyntaxError: Unexpected token ';'",
    "node-told-and-ended": "Error: could not load config",
    "npm-no-json": "npm error JSON.parse Invalid package.json: JSONParseError: Unexpected end of "
    'JSON input while parsing near "...\\"dependencies\\":{\\"a\\":\\n"',
    "npm-no-lock": "npm error The `npm ci` command can only install with an existing "
    "package-lock.json or",
    "npm-no-script": 'npm error Missing script: "nothere"',
    "npm-no-vite": "sh: 1: vite: not found",
    "php-throw": "PHP Fatal error:  Uncaught RuntimeException: no settings in /app/p.php:1",
    "python-cause": "RuntimeError: could not read the settings",
    "python-exit": "no DATABASE_URL: set it in the environment",
    "python-key": "KeyError: 'DATABASE_URL'",
    "python-no-module": "/usr/bin/python3: No module named nothere",
    "python-own-exception": "Bad: two",
    "python-port-in-use": "OSError: [Errno 98] Address already in use",
    "python-syntax": "SyntaxError: invalid syntax",
    "ruby-raise": "r.rb:1:in `go': no settings (RuntimeError)",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in LAST_WORDS.iterdir()))
def test_reason_is_the_line_that_holds_the_error(name: str) -> None:
    assert last_error((LAST_WORDS / f"{name}.log").read_text()) == REASONS[name]


@pytest.mark.parametrize(
    ("cause", "log", "named"),
    [
        ("crashed", "Error: Cannot find module 'express'", "Add express to"),
        ("crashed", "ModuleNotFoundError: No module named 'flask'", "brings flask"),
        ("crashed", "KeyError: 'STRIPE_KEY'", "Set STRIPE_KEY in settings.runEnvs"),
        ("build_failed", "sh: 1: vite: not found", "Install vite."),
        ("port_not_bound", "", "variable PORT"),
        ("unhealthy", "", "settings.healthPath"),
        ("out_of_memory", "", "memory"),
        ("superseded", "", "took its place"),
    ],
)
def test_known_faults_have_advice(cause: str, log: str, named: str) -> None:
    assert named in next_actions(cause, log)[0]


@pytest.mark.parametrize("cause", ["crashed", "build_failed", "interrupted", "cancelled", None])
def test_failed_deployment_may_be_deployed_again_for_nothing(cause: str | None) -> None:
    last = next_actions(cause, "anything")[-1]
    assert "same uniqueName" in last
    assert "free" in last
