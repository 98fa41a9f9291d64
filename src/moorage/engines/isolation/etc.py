"""Makes the files of an app's `/etc`."""

from pathlib import Path
from typing import Protocol

from moorage.engines.isolation.resolver import resolv_conf

NAMES = ("group", "hosts", "nsswitch.conf", "passwd", "resolv.conf")


class Resident(Protocol):
    """The user id and address of an app inside its sandbox; a slot has them."""

    @property
    def app_uid(self) -> int:
        """User and group id of the app."""
        ...

    @property
    def app_address(self) -> str:
        """The app's IPv4 address."""
        ...


def etc_files(who: Resident, servers: tuple[str, ...]) -> dict[str, str]:
    """Returns the text of each file in NAMES, by name."""
    uid = who.app_uid
    return {
        "group": f"app:x:{uid}:\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{who.app_address} app\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "passwd": f"app:x:{uid}:{uid}:app:/home/app:/bin/sh\n",
        "resolv.conf": resolv_conf(servers),
    }


def write_etc(directory: Path, who: Resident, servers: tuple[str, ...]) -> None:
    """Writes the files, readable by all, in place, so that a running app sees new name servers."""
    directory.mkdir(mode=0o755, exist_ok=True)
    for name, text in etc_files(who, servers).items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
