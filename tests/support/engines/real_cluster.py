"""The Kubernetes engine on a real cluster.

MOORAGE_TEST_KUBECONFIG names the cluster's file, MOORAGE_TEST_REGISTRY the place in a registry that
the builder and the cluster's nodes reach, MOORAGE_TEST_BUILDER the address of the builder,
MOORAGE_TEST_IMAGE an image with `sh`, `node` and `python3`, MOORAGE_TEST_OWN_IMAGE Moorage's own.
This machine must reach pods by their addresses.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

REGISTRY, BUILDER = "MOORAGE_TEST_REGISTRY", "MOORAGE_TEST_BUILDER"
IMAGE, OWN_IMAGE = "MOORAGE_TEST_IMAGE", "MOORAGE_TEST_OWN_IMAGE"


def settings_of_tests() -> dict[str, str]:
    """Where images are built and stored."""
    return {"registry": os.environ[REGISTRY], "builder": os.environ[BUILDER]}


def own_address(kubeconfig: str) -> str:
    """This machine's address towards the cluster."""
    config = msgspec.yaml.decode(Path(kubeconfig).read_bytes())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as looking:
        looking.connect((server.hostname, server.port))
        return str(looking.getsockname()[0])
