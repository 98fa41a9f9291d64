"""SIGHUP takes what can change at once, and says what waits for a restart."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from moorage.core import Core
from moorage.errors import InvalidField
from moorage.gateway.running import Reload
from moorage.settings import Settings, load_settings
from moorage.storage.database import Database
from moorage.storage.operation import configuration
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.gateway.clock import MovableClock


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, **given)


class Reloaded:
    """A gateway that reads its settings again, and what came of it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._now: Settings | Exception = settings()
        self.logged_as: list[Any] = []
        self.in_force: list[Settings] = []
        self._reload = Reload(
            settings(), self._load, configure=lambda **given: self.logged_as.append(given)
        )

    def _load(self) -> Settings:
        if isinstance(self._now, Exception):
            raise self._now
        return self._now

    async def read(self, now: Settings | Exception) -> Any:
        """Reads these, and returns the line that tells of it."""
        self._now = now
        with capture_logs() as lines:
            await self._reload.read(self._core, self.in_force.append)
        (line,) = [line for line in lines if line["event"] != "configuration changed"]
        return line

    async def recorded(self) -> dict[str, str]:
        return await configuration.in_force(self._core.db)


@pytest.fixture
def gateway(db: Database, clock: MovableClock, tmp_path: Path) -> Reloaded:
    leases = Leases(db=db, holder="a gateway", clock=clock)
    vault = Vault([bytes(KEY_BYTES)])
    return Reloaded(Core(db=db, vault=vault, leases=leases, clock=clock, data_dir=tmp_path))


async def test_what_can_change_is_taken_and_recorded_and_what_waits_is_named(
    gateway: Reloaded,
) -> None:
    line = await gateway.read(
        settings(log_level="debug", contact="ann@example.com", app_memory_mib=1024)
    )
    assert (line["taken"], line["restart"]) == (["contact", "log_level"], ["app_memory_mib"])
    assert gateway.logged_as == [{"level": "debug"}]
    (now,) = gateway.in_force
    assert (now.contact, now.app_memory_mib) == ("ann@example.com", settings().app_memory_mib)
    recorded = await gateway.recorded()
    assert (recorded["contact"], recorded["app_memory_mib"]) == ('"ann@example.com"', "512")


async def test_what_is_set_back_is_taken_and_what_waits_is_named_again(gateway: Reloaded) -> None:
    await gateway.read(settings(retention_days=9, app_memory_mib=1024))
    line = await gateway.read(settings(app_memory_mib=1024))
    assert (line["taken"], line["restart"]) == (["retention_days"], ["app_memory_mib"])
    assert gateway.in_force[-1].retention_days == settings().retention_days


async def test_settings_that_are_wrong_change_nothing_and_are_told(gateway: Reloaded) -> None:
    line = await gateway.read(InvalidField("port", "must be a number"))
    assert line["log_level"] == "error"
    assert "port" in line["error"]
    assert (gateway.in_force, gateway.logged_as, await gateway.recorded()) == ([], [], {})


async def test_unknown_log_level_changes_nothing_and_the_gateway_goes_on(gateway: Reloaded) -> None:
    line = await gateway.read(settings(log_level="loud", contact="ann@example.com"))
    assert "log_level" in line["error"]
    assert (gateway.in_force, gateway.logged_as, await gateway.recorded()) == ([], [], {})
