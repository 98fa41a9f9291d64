"""Manifests and configurations of images, and those of an image with more layers: pure data.

OCI image spec 1.1, and Docker's image manifest version 2, schema 2, which has the same form. An
image made from another keeps to the other's media types.
"""

import hashlib
import platform as machine
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

import msgspec

from moorage.engines.images.layer import Layer

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
OCI_MANIFEST, OCI_INDEX = f"{_OCI}.manifest.v1+json", f"{_OCI}.index.v1+json"
DOCKER_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
DOCKER_LIST = f"{_DOCKER}.distribution.manifest.list.v2+json"
_LAYER_TYPES = {
    OCI_MANIFEST: f"{_OCI}.layer.v1.tar+gzip",
    DOCKER_MANIFEST: f"{_DOCKER}.image.rootfs.diff.tar.gzip",
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MADE_BY = "moorage"
T = TypeVar("T")
# What a base image says of how it runs, and a deployment's image says anew or not at all.
_REPLACED = (
    *("ArgsEscaped", "Cmd", "Entrypoint", "Healthcheck", "OnBuild", "Shell", "StopSignal"),
    *("User", "Volumes", "WorkingDir"),
)


class ImageInvalid(ValueError):
    """An image is not one that others can be made from; the message says why."""


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on."""

    architecture: str
    os: str = "linux"
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Names a blob, or a manifest."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """An image's manifest."""

    config: Descriptor
    layers: list[Descriptor]
    media_type: str = OCI_MANIFEST
    schema_version: int = 2


class _Index(msgspec.Struct):
    manifests: list[Descriptor]


@dataclass(frozen=True, kw_only=True)
class Content:
    """A blob or manifest as bytes."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        """The digest by which a registry knows it."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def descriptor(self) -> Descriptor:
        """Names it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.body))


@dataclass(frozen=True, kw_only=True)
class RunConfiguration:
    """How containers of an image run."""

    user: str
    environment: Mapping[str, str]
    directory: str
    command: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: manifest and configuration."""

    manifest: Manifest
    configuration: dict[str, Any]


def platform_here() -> Platform:
    """Returns the platform of this machine."""
    name = machine.machine()
    return Platform(architecture=_ARCHITECTURES.get(name, name))


def choose(content: Content, wanted: Platform) -> Descriptor | None:
    """Returns the manifest for a platform that an index names; None if it is no index.

    Raises ImageInvalid if it names none for this platform.
    """
    if content.media_type not in {OCI_INDEX, DOCKER_LIST}:
        return None
    found = [
        it
        for it in _read(content, _Index).manifests
        if it.platform is not None
        and (it.platform.os, it.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    if not found:
        raise ImageInvalid(f"it has no variant for {wanted.os}/{wanted.architecture}")
    return next((it for it in found if it.platform == wanted), found[0])


def read_manifest(content: Content) -> Manifest:
    """Reads a manifest. Raises ImageInvalid, also for kinds that are not taken."""
    if content.media_type not in _LAYER_TYPES:
        raise ImageInvalid(f"its manifest is {content.media_type}")
    found = _read(content, Manifest)
    if any(
        "nondistributable" in it.media_type or "foreign" in it.media_type for it in found.layers
    ):
        raise ImageInvalid("its layers may not be copied")
    return msgspec.structs.replace(found, media_type=content.media_type)


def read_configuration(content: Content, manifest: Manifest) -> dict[str, Any]:
    """Reads an image's configuration. Raises ImageInvalid where it does not fit the manifest."""
    found = _read(content, dict[str, Any])
    try:
        count = len(found["rootfs"]["diff_ids"])
    except (KeyError, TypeError):
        count = -1
    if count != len(manifest.layers):
        raise ImageInvalid("its configuration does not fit its layers")
    return found


def with_layers(origin: Image, layers: Sequence[Layer], run: RunConfiguration) -> Image:
    """Returns an image of another's layers and more on top of them, which runs as `run` says."""
    kind = _LAYER_TYPES[origin.manifest.media_type]
    added = [Descriptor(media_type=kind, digest=it.digest, size=it.size) for it in layers]
    given = origin.configuration
    rootfs = {**given["rootfs"], "diff_ids": [*given["rootfs"]["diff_ids"], *_diff_ids(layers)]}
    history = [*given.get("history", ()), *[{"created_by": _MADE_BY}] * len(layers)]
    configuration = {
        **given,
        "config": _run(given.get("config") or {}, run),
        "rootfs": rootfs,
        **({"history": history} if "history" in given else {}),
    }
    return _image(origin.manifest, [*origin.manifest.layers, *added], configuration)


def own_layers(image: Image) -> list[Descriptor]:
    """Returns the layers that `with_layers` has put on top of another image's, lowest first.

    Only the last one where the other image says nothing of how it was made.
    """
    history = image.configuration.get("history")
    if history is None:
        return image.manifest.layers[-1:]
    filled = [it.get("created_by") for it in history if not it.get("empty_layer")]
    count = len(list(takewhile(lambda by: by == _MADE_BY, reversed(filled))))
    return image.manifest.layers[len(image.manifest.layers) - count :]


def with_label(origin: Image, name: str, value: str) -> Image:
    """Returns the same image with another label, and so with a digest of its own."""
    given = origin.configuration
    config = given.get("config") or {}
    configuration = {
        **given,
        "config": {**config, "Labels": {**labels(origin), name: value}},
    }
    return _image(origin.manifest, origin.manifest.layers, configuration)


def as_user(origin: Image, user: str) -> Image:
    """Returns the same image with another user, and without directories for volumes."""
    given = origin.configuration
    config = {k: v for k, v in (given.get("config") or {}).items() if k != "Volumes"}
    configuration = {**given, "config": {**config, "User": user}}
    return _image(origin.manifest, origin.manifest.layers, configuration)


def labels(image: Image) -> Mapping[str, str]:
    """Returns the labels of an image."""
    config = image.configuration.get("config") or {}
    return config.get("Labels") or {}


def encoded(image: Image) -> tuple[Content, Content]:
    """Returns an image's manifest and its configuration as they are stored."""
    configuration = _configuration(image.manifest.config.media_type, image.configuration)
    body = msgspec.json.encode(image.manifest, order="sorted")
    return Content(media_type=image.manifest.media_type, body=body), configuration


def _image(like: Manifest, layers: list[Descriptor], configuration: dict[str, Any]) -> Image:
    config = _configuration(like.config.media_type, configuration).descriptor
    manifest = msgspec.structs.replace(like, config=config, layers=layers)
    return Image(manifest=manifest, configuration=configuration)


def _configuration(media_type: str, configuration: dict[str, Any]) -> Content:
    return Content(media_type=media_type, body=msgspec.json.encode(configuration, order="sorted"))


def _diff_ids(layers: Sequence[Layer]) -> list[str]:
    return [it.diff_id for it in layers]


def _run(given: Mapping[str, Any], run: RunConfiguration) -> dict[str, Any]:
    kept = {name: value for name, value in given.items() if name not in _REPLACED}
    pairs = (line.partition("=") for line in given.get("Env") or ())
    environment = {**{name: value for name, _, value in pairs}, **run.environment}
    return {
        **kept,
        "User": run.user,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "WorkingDir": run.directory,
        "Cmd": list(run.command),
    }


def _read(content: Content, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content.body, type=kind)
    except msgspec.DecodeError as error:
        raise ImageInvalid(f"its {content.media_type} can't be read: {error}") from error
