"""Removes what a gateway that was lost has left: images, and namespaces with nothing in them.

An image is stored after its record says that it is being built, and before the record says that it
is built. So an image that is found before its record is asked for, and has none, is left over.
"""

from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.locks import Locks


class Leftovers:
    """Those of all wallets, of which one is looked at in each turn."""

    def __init__(self, shared: Shared, builder: ImageBuilder, locks: Locks) -> None:
        """`locks` are those of deployments."""
        self._shared = shared
        self._builder = builder
        self._locks = locks
        self._last = ""

    async def remove_next(self) -> None:
        """Checks the next wallet. Raises ClusterUnavailable, Refused, OSError."""
        wallets = await self._shared.namespaces.wallets()
        if not wallets:
            return
        self._last = min((it for it in wallets if it > self._last), default=min(wallets))
        await self._remove_images(wallets[self._last], self._last)
        await self._shared.namespaces.tidy(self._last)

    async def _remove_images(self, wallet: str, namespace: str) -> None:
        found = await self._builder.stored(wallet)
        for deployment_id in sorted(found - self._shared.observed.known()):
            if self._locks.is_held(deployment_id):
                continue  # it is being made
            async with self._locks.alone(deployment_id):
                records = await self._shared.namespaces.records(namespace)
                if deployment_id not in {it.deployment_id for it in records}:
                    self._shared.cluster.require_keeper()
                    await self._builder.remove(wallet, deployment_id)
