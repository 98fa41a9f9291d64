"""The name of an image: registry, repository, tag and digest, as Docker reads it."""

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from moorage.errors import ConfigurationInvalid

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


def is_name(user: str) -> bool:
    """Returns whether a container's `User` is a name, whose number is in its /etc/passwd."""
    name = user.partition(":")[0]
    return bool(name) and not name.isdecimal()


def numeric_user(user: str, passwd: str) -> int:
    """Returns the user id that a container's `User` means, by the text of its /etc/passwd.

    A name that is not there is root, as the container would not start.
    """
    name = user.partition(":")[0]
    if not is_name(user):
        return int(name or 0)
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    return 0


def numeric_pair(user: str, passwd: str) -> str:
    """Returns user and group as numbers, `uid:gid`, by the text of an /etc/passwd; "" for none.

    A group that is named is the user's own.
    """
    name, _, group = user.partition(":")
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 3 and fields[2].isdecimal():
            return f"{fields[2]}:{group if group.isdecimal() else fields[3]}"
    return ""


HUB = "docker.io"
"""The registry of names that have none."""

_HUB_HOST = "registry-1.docker.io"
_LATEST = "latest"
_OFFICIAL = "library"
# distribution's reference.go, without the forms that nobody uses.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository of a registry."""

    registry: str  # host, with a port where it has one
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"

    def below(self, name: str) -> "Repository":
        """Returns a repository whose name begins with this one's."""
        return replace(self, name=f"{self.name}/{name}" if self.name else name)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image: `tag` or `digest`, or both, where the digest counts."""

    repository: Repository
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def pinned(self, digest: str) -> "Reference":
        """Returns the same name with this digest."""
        return replace(self, digest=digest)


def parse_reference(text: str) -> Reference:
    """Reads such as `node:22`, `registry.example:5000/team/app@sha256:…`.

    Raises ConfigurationInvalid.
    """
    name, _, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = parse_repository(f"{head}{slash}{last}", of_image=True)
    tag = tag if colon or digest else _LATEST
    if ((tag or colon) and not _TAG.match(tag)) or (digest and not DIGEST.match(digest)):
        raise ConfigurationInvalid(f"{text!r} is no name of an image")
    return Reference(repository=repository, tag=tag, digest=digest)


def parse_repository(text: str, *, of_image: bool = False) -> Repository:
    """Reads a registry and the beginning of repositories' names, such as `registry.example/team`.

    An image's may be without a registry, and is at Docker Hub then. Raises ConfigurationInvalid.
    """
    host, _, name = text.partition("/")
    if of_image and not ("." in host or ":" in host or host == "localhost"):
        host, name = HUB, (text if "/" in text else f"{_OFFICIAL}/{text}")
    if not _HOST.match(host) or (name and not _REPOSITORY.match(name)) or (of_image and not name):
        raise ConfigurationInvalid(f"{text!r} is no name of a repository: REGISTRY/NAME")
    return Repository(registry=host, name=name)


def root_url(registry: str) -> str:
    """Returns where a registry answers: over HTTPS, except one on this machine's loopback."""
    host = _HUB_HOST if registry == HUB else registry
    return f"{'http' if _is_loopback(host) else 'https'}://{host}/"


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
