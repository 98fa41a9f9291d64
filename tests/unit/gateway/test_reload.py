"""SIGHUP takes what can change at once, and says what waits for a restart."""

from typing import Any

from structlog.testing import capture_logs

from moorage.errors import InvalidField
from moorage.gateway.reload import Reload
from moorage.settings import Settings, load_settings


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, **given)


def reloaded(now: Settings | Exception) -> tuple[list[Any], list[Any]]:
    """How it was set to log, and the lines that were logged."""
    configured: list[Any] = []

    def load() -> Settings:
        if isinstance(now, Exception):
            raise now
        return now

    def configure(**given: Any) -> None:
        configured.append(given)

    with capture_logs() as lines:
        Reload(settings(), load, configure=configure)()
    return configured, list(lines)


def test_level_is_taken_and_what_waits_is_named() -> None:
    configured, (line,) = reloaded(settings(log_level="debug", app_memory_mib=1024))
    assert configured == [{"json": True, "level": "debug"}]
    assert (line["taken"], line["after_a_restart"]) == (["log_level"], ["app_memory_mib"])


def test_level_that_is_set_back_is_taken_and_what_waits_is_named_again() -> None:
    read = iter((settings(log_level="debug", app_memory_mib=1024), settings(app_memory_mib=1024)))
    reload = Reload(settings(), lambda: next(read), configure=lambda **_: None)
    with capture_logs() as lines:
        reload()
        reload()
    assert [line["taken"] for line in lines] == [["log_level"], ["log_level"]]
    assert [line["after_a_restart"] for line in lines] == [["app_memory_mib"]] * 2


def test_settings_that_are_wrong_change_nothing_and_are_told() -> None:
    configured, (line,) = reloaded(InvalidField("port", "must be a number"))
    assert configured == []
    assert line["log_level"] == "error"
    assert "port" in line["error"]
