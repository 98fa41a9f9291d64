"""The set-up installs what the gateway looks for."""

import re
from pathlib import Path

from moorage.engines.host import listeners as door
from moorage.engines.host import probe
from moorage.operate.check.machine import APP_PROGRAMS

REPOSITORY = Path(__file__).parents[2]


def installed_programs() -> dict[str, str]:
    """The table in `scripts/system-packages`: program to package."""
    script = (REPOSITORY / "scripts/system-packages").read_text()
    (table,) = re.findall(r'^programs="\n(.*?)\n"$', script, re.DOTALL | re.MULTILINE)
    return dict(line.split() for line in table.splitlines())


def test_setup_installs_every_program_that_the_gateway_looks_for() -> None:
    programs = probe.PROGRAMS | APP_PROGRAMS
    wanted = programs | {str(door.PROXY): "systemd"}
    assert wanted.items() <= installed_programs().items()


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    locks = list((REPOSITORY / "requirements").glob("*.txt"))
    assert len(locks) == 4
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
    for path in ("package-lock.json", "tests/clients/package-lock.json"):
        assert '"resolved"' not in (REPOSITORY / path).read_text()


def test_lock_files_agree_on_every_version() -> None:
    pins: dict[str, set[str]] = {}
    for lock in (REPOSITORY / "requirements").glob("*.txt"):
        for name, version in re.findall(
            r"^([a-z0-9.-]+)==([^ ;]+)", lock.read_text(), re.MULTILINE
        ):
            pins.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def test_what_a_lock_names_is_installed_and_nothing_is_resolved_again() -> None:
    """Else an older pip takes a release that no lock names, or ends."""
    for name in ("Makefile", "Containerfile"):
        commands = (REPOSITORY / name).read_text().replace("\\\n", " ").splitlines()
        locked = [part for it in commands for part in it.split("&&") if "--require-hashes" in part]
        assert locked
        assert [part for part in locked if "--no-deps" not in part] == []
