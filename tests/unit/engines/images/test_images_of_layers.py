"""Manifests and configurations of images that are made from others."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from moorage.engines.images.layer import Layer
from moorage.engines.images.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    Image,
    ImageInvalid,
    Platform,
    RunConfiguration,
    choose,
    encoded,
    own_layers,
    read_configuration,
    read_manifest,
    with_label,
    with_layers,
)

AMD64 = Platform(architecture="amd64")
RUN = RunConfiguration(
    user="1000:1000",
    environment={"PATH": "/app/bin:/usr/bin", "PORT": "3000"},
    directory="/app",
    command=("/bin/sh", "-c", "exec node index.js"),
)
LAYER = Layer(digest=f"sha256:{'d' * 64}", diff_id=f"sha256:{'e' * 64}", size=7)
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/usr/bin", "NODE_VERSION=22"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["node"],
        "Volumes": {"/data": {}},
        "User": "root",
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {"by": "them"},
        "ExposedPorts": {"80/tcp": {}},
    },
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'b' * 64}"]},
    "history": [{"created_by": "them"}],
}


def content(document: Any, media_type: str = OCI_MANIFEST) -> Content:
    return Content(media_type=media_type, body=msgspec.json.encode(document))


def described(kind: str, letter: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{letter * 64}", "size": 5, **more}


def manifest(media_type: str, layer: str, **more: Any) -> Content:
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": described("config", "a"),
        "layers": [described(layer, "c")],
        **more,
    }
    return content(document, media_type)


def base(media_type: str = OCI_MANIFEST, layer: str = "layer") -> Image:
    found = read_manifest(manifest(media_type, layer))
    return Image(manifest=found, configuration=read_configuration(content(CONFIG), found))


def index(*platforms: dict[str, str], media_type: str = OCI_INDEX) -> Content:
    found = [
        described(OCI_MANIFEST, str(number), platform=platform)
        for number, platform in enumerate(platforms)
    ]
    return content({"manifests": found}, media_type)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_variant_of_the_platform_is_chosen(media_type: str) -> None:
    found = choose(
        index(
            {"os": "linux", "architecture": "arm64"},
            {"os": "windows", "architecture": "amd64"},
            {"os": "linux", "architecture": "amd64", "variant": "v3"},
            {"os": "linux", "architecture": "amd64"},
            {"os": "unknown", "architecture": "unknown"},
            media_type=media_type,
        ),
        AMD64,
    )
    assert found is not None
    assert found.digest == f"sha256:{'3' * 64}"


def test_missing_platform_is_said() -> None:
    with pytest.raises(ImageInvalid, match="no variant for linux/amd64"):
        choose(index({"os": "linux", "architecture": "arm64"}), AMD64)


def test_manifest_itself_is_no_index() -> None:
    assert choose(manifest(OCI_MANIFEST, "layer"), AMD64) is None


@pytest.mark.parametrize(
    ("media_type", "layer"),
    [
        (OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
)
def test_layer_goes_on_top_in_the_types_of_the_base(media_type: str, layer: str) -> None:
    made = with_layers(base(media_type), [LAYER], RUN)
    assert made.manifest.media_type == media_type
    assert [it.digest for it in made.manifest.layers] == [f"sha256:{'c' * 64}", LAYER.digest]
    assert made.manifest.layers[-1].media_type == layer
    assert made.configuration["rootfs"]["diff_ids"] == [f"sha256:{'b' * 64}", LAYER.diff_id]
    assert len(made.configuration["history"]) == 2


def test_image_runs_as_it_is_told_and_not_as_its_base_did() -> None:
    config = with_layers(base(), [LAYER], RUN).configuration["config"]
    assert config == {
        "Env": ["PATH=/app/bin:/usr/bin", "NODE_VERSION=22", "PORT=3000"],
        "Cmd": ["/bin/sh", "-c", "exec node index.js"],
        "User": "1000:1000",
        "WorkingDir": "/app",
        "Labels": {"by": "them"},
        "ExposedPorts": {"80/tcp": {}},
    }


def test_manifest_names_its_configuration() -> None:
    stored, configuration = encoded(with_layers(base(), [LAYER], RUN))
    named = msgspec.json.decode(stored.body)["config"]
    assert (named["digest"], named["size"]) == (configuration.digest, len(configuration.body))
    assert named["mediaType"] == "config"


def test_label_alone_makes_another_image_of_the_same_layers() -> None:
    made = with_layers(base(), [LAYER], RUN)
    one, other = (encoded(with_label(made, "id", value))[0] for value in ("1", "2"))
    assert one.digest != other.digest
    layers = [msgspec.json.decode(it.body)["layers"] for it in (one, other)]
    assert layers[0] == layers[1]


def test_same_parts_are_the_same_image() -> None:
    assert encoded(with_layers(base(), [LAYER], RUN)) == encoded(with_layers(base(), [LAYER], RUN))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (manifest("application/vnd.docker.distribution.manifest.v1+json", "layer"), "manifest is"),
        (manifest(OCI_MANIFEST, "vnd.oci.image.layer.nondistributable.v1.tar"), "copied"),
        (Content(media_type=OCI_MANIFEST, body=b"<html>"), "can't be read"),
        (content({"layers": []}), "can't be read"),
    ],
)  # fmt: skip
def test_manifest_that_is_not_taken_says_why(given: Content, problem: str) -> None:
    with pytest.raises(ImageInvalid, match=problem):
        read_manifest(given)


@pytest.mark.parametrize("document", [{}, {"rootfs": {"diff_ids": []}}, {"rootfs": 5}])
def test_configuration_of_another_image_is_refused(document: Any) -> None:
    found = read_manifest(manifest(OCI_MANIFEST, "layer"))
    with pytest.raises(ImageInvalid, match="does not fit"):
        read_configuration(content(document), found)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_layers_that_were_put_on_top_are_told_from_those_below(count: int) -> None:
    added = [replace(LAYER, digest=f"sha256:{number:064}") for number in range(count)]
    image = with_layers(base(), added, RUN)
    assert [it.digest for it in own_layers(image)] == [it.digest for it in added]


def test_of_an_image_without_a_history_the_last_layer_is_ours() -> None:
    below = base()
    silent = {name: it for name, it in below.configuration.items() if name != "history"}
    image = with_layers(replace(below, configuration=silent), [LAYER], RUN)
    assert [it.digest for it in own_layers(image)] == [LAYER.digest]
