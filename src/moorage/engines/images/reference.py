"""The name of an image: registry, repository, tag and digest, as Docker reads it."""

import ipaddress
import re
from dataclasses import dataclass, replace

from moorage.errors import ConfigurationInvalid

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
    """Returns where a registry answers: over HTTPS, but for one on this machine's loopback."""
    host = _HUB_HOST if registry == HUB else registry
    return f"{'http' if _is_loopback(host) else 'https'}://{host}/"


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
