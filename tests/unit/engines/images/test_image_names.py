"""How names of images are read: as Docker reads them."""

from pathlib import Path

import msgspec
import pytest

from moorage.engines.images.image import parse_reference, parse_repository, root_url
from moorage.engines.images.registry import Challenge, read_challenge, read_credentials
from moorage.errors import ConfigurationInvalid

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
