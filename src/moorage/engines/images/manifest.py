"""Manifests and configurations of images: pure data.

OCI image spec 1.1, and Docker's image manifest version 2, schema 2, which has the same form. An
image made from another has the same media types.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker"
OCI_MANIFEST, OCI_INDEX = f"{_OCI}.manifest.v1+json", f"{_OCI}.index.v1+json"
DOCKER_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
DOCKER_LIST = f"{_DOCKER}.distribution.manifest.list.v2+json"
T = TypeVar("T")


class ImageInvalid(ValueError):
    """An image is not one that others can be made from; the message says why."""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Names a blob."""

    media_type: str
    digest: str
    size: int


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """An image's manifest."""

    config: Descriptor
    layers: list[Descriptor]
    media_type: str = OCI_MANIFEST
    schema_version: int = 2


@dataclass(frozen=True, kw_only=True)
class Content:
    """A blob or manifest as bytes."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        """The digest by which a registry knows it."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: manifest and configuration."""

    manifest: Manifest
    configuration: dict[str, Any]


def read_manifest(content: Content) -> Manifest:
    """Reads a manifest. Raises ImageInvalid, also for kinds that are not taken."""
    if content.media_type not in {OCI_MANIFEST, DOCKER_MANIFEST}:
        raise ImageInvalid(f"its manifest is {content.media_type}")
    found = _read(content, Manifest)
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


def with_label(origin: Image, name: str, value: str) -> Image:
    """Returns the same image with another label, and so with a digest of its own."""
    return _with_config(origin, {**config_of(origin), "Labels": {**labels(origin), name: value}})


def as_user(origin: Image, user: str) -> Image:
    """Returns the same image with another user, and without directories for volumes."""
    config = {name: value for name, value in config_of(origin).items() if name != "Volumes"}
    return _with_config(origin, {**config, "User": user})


def config_of(image: Image) -> Mapping[str, Any]:
    """Returns what an image says of how it runs."""
    return image.configuration.get("config") or {}


def labels(image: Image) -> Mapping[str, str]:
    """Returns the labels of an image."""
    return config_of(image).get("Labels") or {}


def encoded(image: Image) -> tuple[Content, Content]:
    """Returns an image's manifest and its configuration as they are stored."""
    configuration = _configuration(image.manifest.config.media_type, image.configuration)
    body = msgspec.json.encode(image.manifest, order="sorted")
    return Content(media_type=image.manifest.media_type, body=body), configuration


def _with_config(origin: Image, config: Mapping[str, Any]) -> Image:
    """Returns the same image with another `config` in its configuration."""
    configuration = {**origin.configuration, "config": config}
    content = _configuration(origin.manifest.config.media_type, configuration)
    named = msgspec.structs.replace(
        origin.manifest.config, digest=content.digest, size=len(content.body)
    )
    manifest = msgspec.structs.replace(origin.manifest, config=named)
    return Image(manifest=manifest, configuration=configuration)


def _configuration(media_type: str, configuration: Mapping[str, Any]) -> Content:
    return Content(media_type=media_type, body=msgspec.json.encode(configuration, order="sorted"))


def _read(content: Content, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content.body, type=kind)
    except msgspec.DecodeError as error:
        raise ImageInvalid(f"its {content.media_type} can't be read: {error}") from error
