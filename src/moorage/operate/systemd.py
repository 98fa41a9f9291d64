"""Installs a gateway's services: says which files and commands that takes, then does it."""

import re
import stat
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from importlib import resources
from itertools import count
from pathlib import Path

import msgspec

from moorage.errors import ConfigurationInvalid
from moorage.settings import Settings

_UNITS = "etc/systemd/system"
_JOURNALD = "etc/systemd/journald.conf.d/moorage.conf"
_UNNAMED = "moorage.service"
_OF_ONE_GATEWAY = "Environment=MOORAGE_GATEWAY_NAME=%i\nEnvironmentFile={directory}/%i.env\n"
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
    *,
    program: Path,
    config: Path,
    root: Path,
    settings: Settings | None = None,
    gateways: Sequence[str] = (),
) -> Installation:
    """Returns what installs the services of `program` with the settings in `config`, if it exists.

    With names of `gateways`, the unit without a name no longer starts at boot. Below another `root`
    than / no command reaches systemd itself. Raises ConfigurationInvalid for a path that a unit
    can't have as it is, and for what is no file of ours; OSError.
    """
    for path in (program, config):
        if not _PLAIN.fullmatch(str(path)):
            raise ConfigurationInvalid(f"{path}: a unit's paths have no spaces, and none of %$'\"")
    if not program.exists():
        raise ConfigurationInvalid(f"{program} is not there: install moorage into a venv")
    texts: dict[str, str] = {}
    for source in resources.files("moorage.operate").joinpath("units").iterdir():
        place = _JOURNALD if source.name.endswith(".conf") else f"{_UNITS}/{source.name}"
        text = source.read_text().replace("@program@", str(program))
        texts[place] = text.replace("@config@", str(config))
    unnamed = texts[f"{_UNITS}/{_UNNAMED}"]
    own = _OF_ONE_GATEWAY.format(directory=config.parent)
    texts[f"{_UNITS}/moorage@.service"] = unnamed.replace("[Service]\n", f"[Service]\n{own}")
    folder = config.parent.relative_to("/")
    texts |= _variables(root / folder, gateways, settings or Settings())
    places = [folder, Path(settings.data_dir).relative_to("/")] if settings else [folder]
    disable = ("systemctl", f"--root={root}", "disable", _UNNAMED)
    return Installation(
        directories=tuple(str(root / each) for each in places if not (root / each).exists()),
        files=tuple(_unit_file(root / path, texts[path]) for path in sorted(texts)),
        commands=(disable,) * bool(gateways) + _COMMANDS * (root == Path("/")),
    )


def _variables(folder: Path, gateways: Sequence[str], settings: Settings) -> dict[str, str]:
    """Returns the variables' file of each name that has none, by path: a port that none has yet."""
    taken = "".join(each.read_text() for each in folder.glob("*.env"))
    ports = (port for port in count(settings.operator_port) if f":{port}" not in taken)
    new = [path for name in gateways if not (path := folder / f"{name}.env").exists()]
    address = f"MOORAGE_OPERATOR_LISTEN={settings.operator_host}"
    return {str(path): f"{address}:{next(ports)}\n" for path in new}


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
