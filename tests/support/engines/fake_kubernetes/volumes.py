"""The directories that a pod's volumes are."""

import base64
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.engines.fake_kubernetes.admission import number
from support.engines.fake_kubernetes.network import run
from support.engines.fake_kubernetes.resources import CONFIG_MAPS, SECRETS, Manifest
from support.engines.fake_kubernetes.store import Store


class VolumeMissing(Exception):
    """A pod waits for a volume; the message is the kubelet's."""


@dataclass(frozen=True)
class Volumes:
    """Makes the volumes of pods."""

    store: Store
    claims: Path  # a directory for each bound claim

    async def make(self, pod: Manifest, directory: Path) -> dict[str, Path]:
        """The directories, by volume. Raises VolumeMissing."""
        made = {}
        group = pod["spec"]["securityContext"].get("fsGroup")
        for volume in pod["spec"].get("volumes", []):
            path = directory / volume["name"]
            made[volume["name"]] = await self._make(volume, pod["metadata"]["namespace"], path)
            if group is not None:
                _share(made[volume["name"]], group)
        return made

    async def _make(self, volume: Manifest, namespace: str, path: Path) -> Path:
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            return self.of_claim(namespace, claim["claimName"])
        path.mkdir(parents=True, exist_ok=True)
        if (empty := volume.get("emptyDir")) is not None:
            if empty.get("medium") == "Memory":
                size = f"size={int(number(empty.get('sizeLimit', '64Mi')))}"
                await run("mount", "-t", "tmpfs", "-o", f"{size},mode=777", "tmpfs", str(path))
            path.chmod(0o777)
        else:
            for source in volume.get("projected", {}).get("sources", [volume]):
                self._write_files(source, namespace, path)
        return path

    def of_claim(self, namespace: str, name: str) -> Path:
        """Of a bound claim. Raises VolumeMissing."""
        path = self.claims / namespace / name
        if not path.exists():
            raise VolumeMissing(f'persistentvolumeclaim "{name}" not found')
        return path

    def _write_files(self, source: Manifest, namespace: str, path: Path) -> None:
        """Writes the entries of a Secret or ConfigMap, or a token."""
        if (token := source.get("serviceAccountToken")) is not None:
            (path / token["path"]).write_text("a token of the cluster's API")
            return
        decode: Callable[[str], bytes]
        if (wanted := source.get("secret")) is not None:
            resource, decode = SECRETS, base64.b64decode
            name = wanted.get("secretName") or wanted["name"]
        else:
            wanted = source["configMap"]
            resource, decode, name = CONFIG_MAPS, str.encode, wanted["name"]
        found = self.store.find(resource, namespace, name)
        if found is None:
            raise VolumeMissing(f'{resource.plural[:-1]} "{name}" not found')
        data = found.get("data", {})
        items = wanted.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            file = path / item["path"]
            file.write_bytes(decode(data[item["key"]]))
            file.chmod(item.get("mode", wanted.get("defaultMode", 0o644)))


def used_bytes(path: Path) -> int:
    """What the files below a directory take, while others may write and remove them."""
    used = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                used += os.lstat(Path(parent, name)).st_blocks * 512
    return used


def _share(path: Path, group: int) -> None:
    """Makes a volume writable by the pod's group, as `fsGroup` asks."""
    os.chown(path, -1, group)
    path.chmod(path.stat().st_mode | 0o2770)
