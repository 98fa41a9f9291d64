"""Two gateways with data directories of their own, as on two machines, on one database.

Their apps are bound to neither; files that they share lie in S3.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from moorage.engines import table
from moorage.settings import load_settings
from support.chains.chain_fixture import LocalChains
from support.engines.shared_engine import DIRECTORY, KIND, SharedEngine
from support.gateway.content_fixture import S3Server, credentials_text
from support.gateway.members import Member, Pair, serve


class Machine(Member):
    """A gateway on a machine of its own."""

    script = __file__

    def __init__(self, name: str, settings: Mapping[str, str], info: Mapping[str, object]) -> None:
        data_dir = str(Path(settings["MOORAGE_DATA_DIR"]) / name)
        super().__init__(name, {**settings, "MOORAGE_DATA_DIR": data_dir}, info)

    @property
    def keeps(self) -> bool:
        """Whether it said that it keeps the apps."""
        return "another" not in str(json.loads(self._told.read_text())["isolation"])


class Machines(Pair):
    """Both, of which the first keeps the apps at first."""

    member = Machine


@contextlib.contextmanager
def running_machines(
    directory: Path, *, url: str, chains: LocalChains, s3: S3Server
) -> Iterator[Machines]:
    """Both run; at the end none does, and no app."""
    secrets_key, credentials = directory / "secrets.key", directory / "credentials"
    for path, text in (
        (secrets_key, "ab" * 32),
        (credentials, credentials_text(s3.url)),
    ):
        path.touch(mode=0o600)
        path.write_text(text)
    shared = directory / "shared"
    shared.mkdir()
    pair = Machines(
        directory / "data",
        url=url,
        chains=chains,
        settings={
            "isolation": KIND.name,
            "secrets_key_file": str(secrets_key),
            "content_url": f"s3://{s3.bucket()}/moorage",
            "content_credentials_file": str(credentials),
        },
        variables={DIRECTORY: str(shared)},
    )
    with contextlib.ExitStack() as ends:
        ends.callback(lambda: asyncio.run(_end_apps(shared)))
        for member in pair.members:
            ends.callback(_end_proxy, member)
        pair.first.start()
        pair.second.start()
        yield pair
        for member in pair.members:
            member.stop()


def _end_proxy(member: Member) -> None:
    """Starts a gateway that takes over the proxy of an earlier one, and has it end with it."""
    if member.runs:
        member.kill()
    member.stops_apps = True
    member.start()
    member.stop()


async def _end_apps(shared: Path) -> None:
    engine = SharedEngine(shared)
    for deployment_id in await engine.running():
        await engine.stop(deployment_id)


if __name__ == "__main__":
    table.ENGINES = (*table.ENGINES, KIND)
    asyncio.run(serve(load_settings(file=None), Path(sys.argv[1]), stop_apps=bool(sys.argv[2])))
