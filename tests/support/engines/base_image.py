"""A base image in a registry: a system whose programs are this machine's, as nodes show them."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from moorage.engines.images.image import OCI_MANIFEST, Content, Reference, parse_repository
from moorage.engines.images.registry import Credentials, Registry

SHOWN = {path: Path(path) for path in ("/usr", "/etc/ssl")}
"""What a fake cluster's node shows of this machine in images that it pulls."""

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DIRECTORIES = ("dev", "etc/ssl", "home", "proc", "sys", "tmp", "usr", "var")
_LINKS = ("bin", "lib", "lib64", "sbin")


async def push_base(
    host: str, *, mark: str = "1", name: str = "base", tags: Sequence[str] = ("1",)
) -> str:
    """Puts the image into a registry as `base:1`, and returns its digest; `mark` tells versions."""
    environment = ["PATH=/usr/bin:/bin", f"MARK={mark}"]
    return await push_image(f"{host}/{name}", _layer(), environment=environment, tags=tags)


async def push_image(
    name: str, layer: bytes, *, environment: Sequence[str] = (), tags: Sequence[str] = ("1",)
) -> str:
    """Puts an image of one layer, a tar file, into a registry; returns its digest.

    The layer is packed, but not compressed: that takes seconds for a machine's programs.
    """
    blob = Content(media_type=_LAYER, body=gzip.compress(layer, compresslevel=0, mtime=0))
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": environment},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    config = Content(media_type=_CONFIG, body=json.dumps(configuration).encode())
    named = [
        {"mediaType": it.media_type, "digest": it.digest, "size": len(it.body)}
        for it in (config, blob)
    ]
    manifest = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named[0], "layers": named[1:],
    }  # fmt: skip
    repository = parse_repository(name)
    registry = Registry(Credentials({}))
    await registry.push_blob(repository, config)
    await registry.push_blob(repository, blob)
    content = Content(media_type=OCI_MANIFEST, body=json.dumps(manifest).encode())
    for tag in tags:
        await registry.put_manifest(Reference(repository=repository, tag=tag), content)
    await registry.close()
    return content.digest


def _layer() -> bytes:
    """The image's only layer."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in _LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
    return written.getvalue()
