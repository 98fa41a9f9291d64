"""The units of systemd are right, and a gateway tells systemd when it serves."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from moorage.process import notify
from support.gateway.gateway_fixture import REPOSITORY

UNITS = REPOSITORY / "ops/systemd"
PROGRAM = "/opt/moorage/.venv/bin/moorage"


def test_units_are_what_systemd_reads_without_a_warning(tmp_path: Path) -> None:
    """At the paths of this machine, as it looks programs up."""
    for unit in UNITS.glob("moorage*.*"):
        text = unit.read_text().replace(PROGRAM, shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text.replace("file:///opt", "https://example.com"))
    units = sorted(each for each in tmp_path.iterdir() if each.suffix in {".service", ".timer"})
    assert len(units) == 5
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "moorage" in line]
    assert (done.returncode, ours) == (0, [])


def test_unit_of_the_gateway_lets_apps_outlive_it() -> None:
    unit = (UNITS / "moorage.service").read_text()
    settings = set(re.findall(r"^(\w+)=", unit, re.MULTILINE))
    assert "\nKillMode=process\n" in unit
    assert "\nUMask=0022\n" in unit  # else apps can't read their own /etc
    assert not [each for each in settings if each.startswith(("Private", "Protect", "ReadWrite"))]
    assert "RuntimeDirectory" not in settings


def test_each_timer_has_its_service() -> None:
    for timer in UNITS.glob("*.timer"):
        assert timer.with_suffix(".service").exists()


@pytest.mark.parametrize("abstract", [False, True])
def test_manager_that_started_a_gateway_is_told_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    path = f"@moorage-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{path[1:]}" if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_process_without_a_manager_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify("READY=1")
