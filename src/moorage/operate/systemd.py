"""Installs a gateway's services: says which files and commands that takes, then does it."""

import re
import stat
import subprocess
from enum import StrEnum
from importlib import resources
from pathlib import Path

import msgspec

from moorage.errors import ConfigurationInvalid

_UNITS = "etc/systemd/system"
_JOURNALD = "etc/systemd/journald.conf.d/moorage.conf"
_PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)  # in a unit, what else a path may have is quoted


class Change(StrEnum):
    """What becomes of a file."""

    NEW = "new"
    REPLACED = "replaced"
    SAME = "same"


class UnitFile(msgspec.Struct, frozen=True):
    """A file to be written."""

    path: str
    text: str
    change: Change


class Installation(msgspec.Struct, frozen=True):
    """What an installation does, in this order."""

    directories: tuple[str, ...]  # to be made, for their owner alone
    files: tuple[UnitFile, ...]
    commands: tuple[tuple[str, ...], ...]


def plan_installation(
    *, program: Path, config: Path, data_dir: Path | None, root: Path
) -> Installation:
    """Returns what installs the services of `program` with the settings in `config`.

    Below another `root` than / no command is run. Raises ConfigurationInvalid for a path that a
    unit can't have as it is, and for what is no file of ours; OSError.
    """
    for path in (program, config):
        if not _PLAIN.fullmatch(str(path)):
            raise ConfigurationInvalid(f"{path}: a unit's paths have no spaces, and none of %$'\"")
    if not program.exists():
        raise ConfigurationInvalid(f"{program} is not there: install moorage into a venv")
    files = []
    for source in resources.files("moorage.operate").joinpath("units").iterdir():
        text = source.read_text().replace("@program@", str(program))
        target = root / (_JOURNALD if source.name.endswith(".conf") else f"{_UNITS}/{source.name}")
        files.append(_unit_file(target, text.replace("@config@", str(config))))
    needed = [root / each.relative_to("/") for each in (config.parent, data_dir) if each]
    return Installation(
        directories=tuple(str(each) for each in needed if not each.exists()),
        files=tuple(sorted(files, key=lambda each: each.path)),
        commands=_COMMANDS if root == Path("/") else (),
    )


_COMMANDS = (("systemctl", "daemon-reload"), ("systemctl", "restart", "systemd-journald"))


def _unit_file(path: Path, text: str) -> UnitFile:
    if path.is_symlink():
        raise ConfigurationInvalid(
            f"{path} is a link: `systemctl unmask {path.name}`, or remove it"
        )
    before = path.read_bytes() if path.exists() else None
    change = Change.REPLACED if before != text.encode() else Change.SAME
    return UnitFile(str(path), text, Change.NEW if before is None else change)


def exposed(path: Path) -> Path | None:
    """Returns what on the way to a path others than root may change; None if nothing is."""
    for each in (path.resolve(), *path.resolve().parents):
        if each.exists():
            status = each.stat()
            is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if status.st_uid != 0 or (is_open and not status.st_mode & stat.S_ISVTX):
                return each
    return None


def install(planned: Installation) -> None:
    """Does what was planned. Raises ConfigurationInvalid where that is not allowed, or fails."""
    try:
        for directory in planned.directories:
            Path(directory).mkdir(mode=0o700, parents=True)
        for file in planned.files:
            Path(file.path).parent.mkdir(parents=True, exist_ok=True)
            Path(file.path).write_text(file.text)
            Path(file.path).chmod(0o644)
        for command in planned.commands:
            subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationInvalid(f"not installed: {error}; it takes root, and systemd") from error
