"""Images: their names, what others may be made of, and where a registry gives tokens."""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from moorage.engines.images.image import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    Image,
    ImageInvalid,
    as_user,
    encoded,
    numeric_pair,
    parse_reference,
    parse_repository,
    read_configuration,
    read_manifest,
    root_url,
    with_label,
)
from moorage.engines.images.registry import (
    Authorizations,
    Challenge,
    Credentials,
    read_challenge,
    read_credentials,
)
from moorage.errors import ConfigurationInvalid

CONFIG = {
    "architecture": "amd64",
    "config": {
        "Cmd": ["node"],
        "Volumes": {"/data": {}},
        "User": "root",
        "Labels": {"by": "them"},
    },
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'b' * 64}"]},
}


def content(document: Any, media_type: str = OCI_MANIFEST) -> Content:
    return Content(media_type=media_type, body=msgspec.json.encode(document))


def manifest(media_type: str) -> Content:
    named = {
        kind: {"mediaType": kind, "digest": f"sha256:{letter * 64}", "size": 5}
        for kind, letter in (("config", "a"), ("layer", "c"))
    }
    document = {"schemaVersion": 2, "config": named["config"], "layers": [named["layer"]]}
    return content({**document, "mediaType": media_type}, media_type)


def image(media_type: str = OCI_MANIFEST) -> Image:
    found = read_manifest(manifest(media_type))
    return Image(manifest=found, configuration=read_configuration(content(CONFIG), found))


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_image_runs_as_a_user_without_volumes_and_has_its_layers_and_types(media_type: str) -> None:
    stored, configuration = encoded(as_user(image(media_type), "7:8"))
    made, given = msgspec.json.decode(stored.body), image(media_type).manifest
    assert (stored.media_type, made["mediaType"]) == (media_type, media_type)
    assert [it["digest"] for it in made["layers"]] == [it.digest for it in given.layers]
    named = made["config"]
    assert (named["digest"], named["size"]) == (configuration.digest, len(configuration.body))
    assert named["mediaType"] == "config"
    config = msgspec.json.decode(configuration.body)["config"]
    assert config == {"Cmd": ["node"], "User": "7:8", "Labels": {"by": "them"}}


def test_label_alone_makes_another_image_of_the_same_layers() -> None:
    one, other = (encoded(with_label(image(), "id", value))[0] for value in ("1", "2"))
    assert one.digest != other.digest
    layers = [msgspec.json.decode(it.body)["layers"] for it in (one, other)]
    assert layers[0] == layers[1]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (manifest("application/vnd.docker.distribution.manifest.v1+json"), "manifest is"),
        (manifest(OCI_INDEX), "manifest is"),
        (Content(media_type=OCI_MANIFEST, body=b"<html>"), "can't be read"),
        (content({"layers": []}), "can't be read"),
    ],
)
def test_manifest_that_is_not_taken_says_why(given: Content, problem: str) -> None:
    with pytest.raises(ImageInvalid, match=problem):
        read_manifest(given)


@pytest.mark.parametrize("document", [{}, {"rootfs": {"diff_ids": []}}, {"rootfs": 5}])
def test_configuration_of_another_image_is_refused(document: Any) -> None:
    found = read_manifest(manifest(OCI_MANIFEST))
    with pytest.raises(ImageInvalid, match="does not fit"):
        read_configuration(content(document), found)


SCOPES = ("repository:team/app:pull",)


class Session:
    """Tells where it was sent, and answers with a refusal."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 403

    @asynccontextmanager
    async def get(self, url: str, **_: Any) -> Any:
        self.asked.append(url)
        yield self


@pytest.mark.parametrize(
    ("registry", "realm", "is_asked"),
    [
        ("registry.example", "https://auth.example/token", True),
        ("registry.example", "http://auth.example/token", False),
        ("registry.example", "http://127.0.0.1/token", False),
        ("127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("127.0.0.1:5000", "http://auth.example/token", False),
        ("127.0.0.1:5000", "http://auth.example@127.0.0.1.example/token", False),
    ],
)
async def test_credentials_are_sent_in_plain_text_to_no_other_machine(
    registry: str, realm: str, is_asked: bool
) -> None:
    session = Session()
    known = Authorizations(cast("Any", session), Credentials({registry: "dXNlcjpwYXNz"}))
    assert not await known.renew(registry, SCOPES, [f'Bearer realm="{realm}"'])
    assert session.asked == [realm] * is_asked


PASSWD = "root:x:0:0::/root:/bin/sh\nnode:x:1001:1002::/home/node:/bin/sh\n"


@pytest.mark.parametrize(
    ("user", "pair"),
    [
        ("node", "1001:1002"),
        ("node:7", "1001:7"),
        ("node:staff", "1001:1002"),
        ("root", "0:0"),
        ("nobody", ""),
    ],
)
def test_named_user_is_that_of_the_images_passwd(user: str, pair: str) -> None:
    assert numeric_pair(user, PASSWD) == pair


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("node", "docker.io/library/node:latest"),
        ("node:22-bookworm", "docker.io/library/node:22-bookworm"),
        ("oven/bun:1.2", "docker.io/oven/bun:1.2"),
        ("registry.example/app", "registry.example/app:latest"),
        ("registry.example:5000/team/app:v1", "registry.example:5000/team/app:v1"),
        ("localhost/app:v1", "localhost/app:v1"),
        ("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"python:3.13@{DIGEST}", f"docker.io/library/python:3.13@{DIGEST}"),
    ],
)
def test_name_is_read_as_docker_reads_it(name: str, whole: str) -> None:
    assert str(parse_reference(name)) == whole
    assert parse_reference(whole) == parse_reference(name)


@pytest.mark.parametrize(
    "name",
    ["", "Node", "node:", "node:a b", "node@sha256:12", "../etc", "registry.example/", "a//b",
     "registry.example/a:b:c", "https://registry.example/a", "a\n", "registry.example/a?b"],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        parse_reference(name)


def test_repositories_lie_below_a_registry_or_a_name() -> None:
    assert str(parse_repository("registry.example").below("app")) == "registry.example/app"
    assert str(parse_repository("registry.example/team").below("app")) == (
        "registry.example/team/app"
    )


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("docker.io", "https://registry-1.docker.io/"),
        ("registry.example:5000", "https://registry.example:5000/"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
        ("127.0.0.1.example", "https://127.0.0.1.example/"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/"),
        ("[::1]:5000", "http://[::1]:5000/"),
        ("localhost", "http://localhost/"),
    ],
)
def test_only_the_loopback_is_asked_without_tls(registry: str, url: str) -> None:
    assert root_url(registry) == url


def test_credentials_are_of_one_registry(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    auths = {
        "registry.example:5000": {"auth": "bWU6c2VjcmV0"},
        "https://index.docker.io/v1/": {"username": "me", "password": "hub"},
    }
    file.write_bytes(msgspec.json.encode({"auths": auths, "credsStore": "desktop"}))
    found = read_credentials(file)
    assert found.of("registry.example:5000") == "bWU6c2VjcmV0"
    assert found.of("docker.io") == "bWU6aHVi"
    assert found.of("registry.example") == ""
    assert read_credentials(None).of("docker.io") == ""


@pytest.mark.parametrize("text", ["", "{", '{"auths": 1}', '{"auths": {"a": {"auth": "%"}}}'])
def test_credentials_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ConfigurationInvalid, match="credentials"):
        read_credentials(file)


@pytest.mark.parametrize(
    ("values", "challenge"),
    [
        (['Basic realm="x"'], Challenge()),
        (
            ['Bearer realm="https://auth.example/token",service="s",scope="repository:a:pull"'],
            Challenge(realm="https://auth.example/token", service="s"),
        ),
        (['Negotiate', 'BEARER realm="https://a.example"'], Challenge(realm="https://a.example")),
        (['Bearer realm="file:///etc/passwd"'], None),
        ([], None),
    ],
)  # fmt: skip
def test_challenge_is_read(values: list[str], challenge: Challenge | None) -> None:
    assert read_challenge(values) == challenge
