"""Images that are made from others: the same layers, with another configuration."""

from typing import Any

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
    read_configuration,
    read_manifest,
    with_label,
)

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
