"""Images: directories that a test names, and what a registry has."""

import asyncio
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_ACCEPTED = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


class ImageMissing(Exception):
    """An image can't be had; the message is the kubelet's."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A root directory, and how the image says that it is run."""

    root: Path
    digest: str = "sha256:" + "0" * 64
    config: Mapping[str, Any] = field(
        default_factory=dict
    )  # Entrypoint, Cmd, Env, WorkingDir, User
    binds: Mapping[str, Path] = field(
        default_factory=dict
    )  # where it shows directories of this machine, read-only


@dataclass
class Images:
    """What the node can run."""

    directory: Path
    given: dict[str, Image] = field(default_factory=dict)
    pulled: dict[str, Image] = field(default_factory=dict)
    shown: Mapping[str, Path] = field(default_factory=dict)  # `binds` of pulled images

    async def get(self, reference: str, *, policy: str) -> Image:
        """Raises ImageMissing."""
        if reference in self.given:
            return self.given[reference]
        if policy == "Never" and reference not in self.pulled:
            raise ImageMissing(
                f'Container image "{reference}" is not present with pull policy of Never'
            )
        if reference not in self.pulled or policy == "Always":
            try:
                self.pulled[reference] = await self._pull(reference)
            except (aiohttp.ClientError, LookupError, ValueError) as error:
                words = f'failed to pull and unpack image "{reference}"'
                raise ImageMissing(f"{words}: {error or 'not found'}") from error
        return self.pulled[reference]

    async def _pull(self, reference: str) -> Image:
        """Fetches an image of a registry on loopback, over plain HTTP."""
        host, _, rest = reference.partition("/")
        if not host.startswith(("127.", "localhost")):
            raise LookupError(f"{host} is no registry on loopback")
        name, _, digest = rest.partition("@")
        repository, _, tag = name.partition(":")
        async with aiohttp.ClientSession(f"http://{host}/v2/{repository}/") as session:
            manifest, digest = await self._manifest(session, digest or tag or "latest")
            config = json.loads(await _blob(session, manifest["config"]["digest"]))
            root = self.directory / digest.removeprefix("sha256:")
            if not root.exists():
                root.mkdir(parents=True)
                for layer in manifest["layers"]:
                    blob = await _blob(session, layer["digest"])
                    await asyncio.to_thread(unpack, blob, root)
        return Image(root=root, digest=digest, config=config.get("config") or {}, binds=self.shown)

    async def _manifest(
        self, session: aiohttp.ClientSession, name: str
    ) -> tuple[dict[str, Any], str]:
        async with session.get(f"manifests/{name}", headers={"Accept": _ACCEPTED}) as answer:
            answer.raise_for_status()
            found = json.loads(await answer.read())
            digest = answer.headers["Docker-Content-Digest"]
        if "manifests" in found:
            wanted = {"os": "linux", "architecture": "amd64"}
            of_platform = [m for m in found["manifests"] if wanted.items() <= m["platform"].items()]
            return await self._manifest(session, of_platform[0]["digest"])
        return found, digest


async def _blob(session: aiohttp.ClientSession, digest: str) -> bytes:
    async with session.get(f"blobs/{digest}") as answer:
        answer.raise_for_status()
        return await answer.read()


def unpack(blob: bytes, root: Path) -> None:
    """Lays a layer over a directory: `.wh.` files remove what lower layers have."""
    data = gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob
    with tarfile.open(fileobj=io.BytesIO(data)) as layer:
        members = []
        for member in layer:
            path = Path(member.name)
            if path.name.startswith(".wh."):
                _remove(root / path.parent / path.name.removeprefix(".wh."))
            else:
                members.append(member)
        layer.extractall(root, members, numeric_owner=True, filter="tar")


def _remove(path: Path) -> None:
    """Removes a file, or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
