"""The units of systemd are right, and a gateway tells systemd when it serves."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.errors import ConfigurationInvalid
from moorage.operate.systemd import Installation, exposed, install, plan_installation
from moorage.process import notify
from support.gateway.gateway_fixture import moorage

CONFIG = Path("/etc/moorage/moorage.toml")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The directory of a machine's units; the program is one that this machine has."""
    program = Path(shutil.which("true") or "")
    install(plan_installation(program=program, config=CONFIG, root=tmp_path))
    return tmp_path / "etc/systemd/system"


def test_units_are_what_systemd_reads_without_a_warning(units: Path) -> None:
    found = sorted(units.iterdir())
    assert len(found) == 10
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


def test_no_service_leaves_its_memory_with_secrets_on_the_disk(units: Path) -> None:
    for unit in units.glob("*.service"):
        assert "\nLimitCORE=0\n" in unit.read_text()


def test_audit_reads_books_wherever_they_are(units: Path) -> None:
    assert "ProtectHome" not in (units / "moorage-audit.service").read_text()


def test_nightly_backups_are_fourteen_also_when_one_failed(units: Path, tmp_path: Path) -> None:
    unit = (units / "moorage-backup.service").read_text()
    (command,) = re.findall(r"^ExecStopPost=(.+)$", unit, re.MULTILINE)
    made = [tmp_path / f"2026-04-{day:02}-030000.backup" for day in range(1, 21)]
    for path in (*made, tmp_path / ".2026-04-21-030000.backup.17.part"):
        path.touch()
    words = shlex.split(command.replace("/var/backups/moorage", str(tmp_path)))
    subprocess.run(words, check=True)
    assert [path for path in sorted(tmp_path.iterdir()) if path.is_file()] == made[-14:]


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


@pytest.fixture
def named(tmp_path: Path) -> list[str]:
    """Words that install below a root, where the gateway without a name starts at boot so far."""
    config, root = tmp_path / "here/moorage.toml", tmp_path / "root"
    config.parent.mkdir()
    config.write_text('database_url = "postgresql://moorage@/books"\n')
    words = ["operator", "install", "--systemd", "--config", str(config), "--root", str(root)]
    assert moorage(*words, "--yes", env=os.environ).returncode == 0
    systemctl(root, "enable", "moorage.service")
    return words


def systemctl(root: Path, *words: str) -> str:
    """What systemctl says of the units below another root, which it also changes there."""
    argv = ["systemctl", f"--root={root}", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def test_named_gateways_start_at_boot_in_place_of_the_one_without_a_name(
    named: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    assert systemctl(root, "is-enabled", "moorage.service") == "enabled"

    done = moorage(*named, "--gateways", "a,b", "--yes", env=os.environ)

    assert "enable --now moorage@a moorage@b" in done.stdout
    systemctl(root, "enable", "moorage@a", "moorage@b")
    assert systemctl(root, "is-enabled", "moorage.service") == "disabled"
    starts = (root / "etc/systemd/system/multi-user.target.wants").glob("moorage*")
    assert sorted(each.name for each in starts) == ["moorage@a.service", "moorage@b.service"]


def test_each_named_gateway_has_an_operators_port_that_no_later_one_gets(
    named: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / f"root{tmp_path}/here"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "b.env").write_text("MOORAGE_OPERATOR_LISTEN=127.0.0.1:8404\n# mine\n")
    for names in ("a,b", "c,a"):
        assert moorage(*named, "--gateways", names, "--yes", env=os.environ).returncode == 0
    files = {each.name: each.read_text() for each in directory.glob("*.env")}
    assert files == {
        "a.env": "MOORAGE_OPERATOR_LISTEN=127.0.0.1:8403\n",
        "b.env": "MOORAGE_OPERATOR_LISTEN=127.0.0.1:8404\n# mine\n",
        "c.env": "MOORAGE_OPERATOR_LISTEN=127.0.0.1:8405\n",
    }


def test_named_gateways_are_refused_with_books_in_a_file_or_a_name_that_is_none(
    named: list[str], tmp_path: Path
) -> None:
    wrong = moorage(*named, "--gateways", "a,../b", "--yes", env=os.environ)
    assert (wrong.returncode, "gateway_name" in wrong.stderr) == (2, True)
    (tmp_path / "here/moorage.toml").write_text("")
    wrong = moorage(*named, "--gateways", "a,b", "--yes", env=os.environ)
    assert (wrong.returncode, "database_url" in wrong.stderr) == (2, True)
    assert systemctl(tmp_path / "root", "is-enabled", "moorage.service") == "enabled"


def test_settings_that_are_not_there_are_named_before_anything_is_installed(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "moorage.toml"
    words = ("operator", "install", "--systemd", "--root", str(tmp_path), "--config", str(missing))
    assert f"{missing} is not there" in moorage(*words, env=os.environ).stderr
    missing.touch()
    assert "is not there" not in moorage(*words, env=os.environ).stderr


def test_path_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="no spaces"):
        plan_installation(program=Path("/a b/moorage"), config=CONFIG, root=tmp_path)


def planned(root: Path, program: Path = Path("/bin/true")) -> Installation:
    return plan_installation(program=program, config=CONFIG, root=root)


def test_systemd_is_told_again_as_the_last_time_may_have_failed() -> None:
    assert planned(Path("/")).commands[0] == ("systemctl", "daemon-reload")


def test_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="not there"):
        planned(tmp_path, program=tmp_path / "moorage")


def test_unit_that_is_masked_stays_so(tmp_path: Path, units: Path) -> None:
    masked = units / "moorage-audit.timer"
    masked.unlink()
    masked.symlink_to("/dev/null")
    with pytest.raises(ConfigurationInvalid, match="unmask"):
        planned(tmp_path)


def test_what_is_no_unit_is_replaced_or_told(tmp_path: Path, units: Path) -> None:
    path = units / "moorage.service"
    path.write_bytes(b"\xff")
    words = ("operator", "install", "--systemd", "--root", str(tmp_path))
    assert "replaced" in moorage(*words, env=os.environ).stdout
    path.unlink()
    path.mkdir()
    told = moorage(*words, env=os.environ)
    assert (told.returncode, "Is a directory" in told.stderr) == (2, True), told.stderr


def test_program_that_others_may_change_is_told(tmp_path: Path) -> None:
    program = tmp_path / "bin/moorage"
    program.parent.mkdir()
    program.touch(0o755)
    assert exposed(program) is None
    program.parent.chmod(0o775)
    assert exposed(program) == program.parent
    program.parent.chmod(0o755)
    os.chown(program, 1000, 1000)
    assert exposed(program) == program


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
