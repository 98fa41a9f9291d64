"""Notes which engine has which deployments, and refuses to start without one that has some."""

from collections import Counter
from collections.abc import Mapping

from moorage.engines.engine import Engine
from moorage.engines.table import ENGINES
from moorage.errors import ConfigurationInvalid
from moorage.storage.apps import deployments
from moorage.storage.database import Database


async def settle_engines(db: Database, opened: Mapping[str, Engine]) -> None:
    """Notes the engine of deployments for which none is noted, by what the open ones know.

    Raises ConfigurationInvalid if projects serve from an engine that is not open, as their apps
    would not be started.
    """
    if unnoted := await deployments.unnoted(db):
        found = {name: unnoted & await engine.known() for name, engine in opened.items()}
        async with db.transaction(durable=False) as tx:
            for name, deployment_ids in found.items():
                await deployments.note_engine(tx, deployment_ids, name)
    elsewhere = Counter(placed.engine for placed in await deployments.placed(db))
    for name, projects in elsewhere.items():
        if name and name not in opened:
            raise ConfigurationInvalid(
                f"{projects} projects are on the engine {name}. {_way(name)}"
            )


def _way(name: str) -> str:
    """Returns what to do about projects on an engine that is not open."""
    if name not in {kind.name for kind in ENGINES}:
        return (
            "This version of Moorage does not have it: run the version that has, let their owners "
            "save what they need, delete them with `moorage operator evict`, and start this one."
        )
    return (
        f'Beside isolation, set moving_from = "{name}" to keep them running; '
        "`moorage operator engine move --all` moves them."
    )
