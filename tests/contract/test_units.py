"""The units of systemd are right, and a gateway tells systemd when it serves."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.errors import ConfigurationInvalid
from moorage.operate.systemd import install, plan_installation
from moorage.process import notify
from support.gateway.gateway_fixture import moorage

CONFIG = Path("/etc/moorage/moorage.toml")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The directory of a machine's units; the program is one that this machine has."""
    program = Path(shutil.which("true") or "")
    install(plan_installation(program=program, config=CONFIG, data_dir=None, root=tmp_path))
    return tmp_path / "etc/systemd/system"


def test_units_are_what_systemd_reads_without_a_warning(units: Path) -> None:
    found = sorted(units.iterdir())
    assert len(found) == 9
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *found],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "moorage" in line]
    assert (done.returncode, ours) == (0, [])


def test_unit_of_the_gateway_lets_apps_outlive_it(units: Path) -> None:
    unit = (units / "moorage.service").read_text()
    settings = set(re.findall(r"^(\w+)=", unit, re.MULTILINE))
    assert "\nKillMode=process\n" in unit
    assert "\nUMask=0022\n" in unit  # else apps can't read their own /etc
    assert not [each for each in settings if each.startswith(("Private", "Protect", "ReadWrite"))]
    assert "RuntimeDirectory" not in settings


def test_each_timer_has_its_service(units: Path) -> None:
    for timer in units.glob("*.timer"):
        assert timer.with_suffix(".service").exists()


def test_installation_is_shown_first_and_done_when_asked(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "here/moorage.toml", tmp_path / "data"
    config.parent.mkdir()
    config.write_text(f'data_dir = "{data_dir}"\n')
    root = tmp_path / "root"
    words = ("operator", "install", "--systemd", "--config", str(config), "--root", str(root))
    shown = json.loads(moorage(*words, "--json", env=os.environ).stdout)
    assert not root.exists()
    assert {each["change"] for each in shown["files"]} == {"new"}

    assert moorage(*words, "--yes", env=os.environ).returncode == 0

    for file in shown["files"]:
        assert Path(file["path"]).read_text() == file["text"]
    for directory in (data_dir, config.parent):
        assert (root / directory.relative_to("/")).stat().st_mode & 0o777 == 0o700
    unit = (root / "etc/systemd/system/moorage.service").read_text()
    assert f"\nExecStart={sys.prefix}/bin/moorage serve --config {config}\n" in unit
    again = json.loads(moorage(*words, "--json", env=os.environ).stdout)
    assert {each["change"] for each in again["files"]} == {"same"}
    assert again["directories"] == again["commands"] == []


def test_path_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="no spaces"):
        plan_installation(program=Path("/a b/moorage"), config=CONFIG, data_dir=None, root=tmp_path)


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
