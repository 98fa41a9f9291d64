"""The few files of an app's `/etc`."""

from pathlib import Path

from moorage.runtimes.sandbox.resolver import resolv_conf
from moorage.runtimes.sandbox.slots import Slot

NAMES = ("group", "hosts", "nsswitch.conf", "passwd", "resolv.conf")


def etc_files(slot: Slot, servers: tuple[str, ...]) -> dict[str, str]:
    """Name → text of each file of NAMES."""
    uid = slot.app_uid
    return {
        "group": f"app:x:{uid}:\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{slot.app_address} app\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "passwd": f"app:x:{uid}:{uid}:app:/home/app:/bin/sh\n",
        "resolv.conf": resolv_conf(servers),
    }


def write_etc(directory: Path, slot: Slot, servers: tuple[str, ...]) -> None:
    """Write the files, readable by all, in place: an app that runs sees new name servers."""
    directory.mkdir(mode=0o755, exist_ok=True)
    for name, text in etc_files(slot, servers).items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
