"""`dev.json`: where a running `moorage dev` answers; for clients, and for commands on its books."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

DEV_FILE = "dev.json"
DEV_CHAINS = ("arbitrum", "base")


class DevChainFacts(msgspec.Struct, frozen=True):
    """What operators' commands need of a local chain."""

    rpc_url: str


class DevFile(msgspec.Struct, frozen=True):
    """What operators' commands need of the file."""

    operator: str  # where the operator's port answers
    chains: Mapping[str, DevChainFacts]


def read_dev_file(data_dir: Path) -> DevFile | None:
    """Reads the file; None while `moorage dev` does not run."""
    try:
        return msgspec.json.decode((data_dir / DEV_FILE).read_bytes(), type=DevFile)
    except FileNotFoundError:
        return None
