"""The latest deployment of each project, as this machine started it.

`deployments.jsonl` in the state directory, one line a deployment. A convenience: losing it loses
no money, only the deployment's id (the contract lists projects, not their deployments).
"""

from pathlib import Path

import msgspec


class Started(msgspec.Struct, frozen=True):
    """A deployment that this machine started. `wallet` is lower-case, `gateway` normalised."""

    gateway: str
    wallet: str
    name: str
    project_id: str
    deployment_id: str


class History:
    """Deployments in the order they were started."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "deployments.jsonl"

    def add(self, started: Started) -> None:
        """Remembers a deployment. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(started) + b"\n")

    def latest(self, *, gateway: str, wallet: str, project: str) -> Started | None:
        """The last one started for a project, given by name or id."""
        for started in reversed(self._read()):
            mine = (started.gateway, started.wallet) == (gateway, wallet.lower())
            if mine and project in {started.name, started.project_id}:
                return started
        return None

    def _read(self) -> list[Started]:
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return []
        found = (_read_line(line) for line in lines)
        return [started for started in found if started is not None]


def _read_line(line: bytes) -> Started | None:
    try:
        return msgspec.json.decode(line, type=Started)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
