"""What is said of a failed deployment beside its reason."""

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
