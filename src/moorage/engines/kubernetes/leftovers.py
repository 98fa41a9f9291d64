"""Removes what nobody needs: what a gateway that was lost has left, and base images.

What was lost are images, and namespaces of which nothing is kept.

An image is stored after its record says that it is being built, and before the record says that it
is built. So an image that is found before its record is asked for, and has none, is left over.
"""

from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.locks import Locks

_COLLECT_SECONDS = 3600.0


async def tidy(shared: Shared, builder: ImageBuilder, *, wallet: str, namespace: str) -> None:
    """Removes what installs have made and nobody needs, and a namespace with nothing in it.

    `wallet` is the hash. Raises ClusterUnavailable, Refused, OSError.
    """
    is_over = not await shared.namespaces.records(namespace)
    shared.cluster.require_keeper()
    await builder.collect_installs(wallet, is_over=is_over)
    await shared.namespaces.tidy(namespace)


class Leftovers:
    """Those of all wallets, of which one is looked at in each turn."""

    def __init__(self, shared: Shared, builder: ImageBuilder, locks: Locks) -> None:
        """`locks` are those of deployments."""
        self._shared = shared
        self._builder = builder
        self._locks = locks
        self._last = ""
        self._collect_at = 0.0  # on the monotonic clock

    async def remove_next(self) -> None:
        """Looks at the next wallet, each hour at base images as well.

        Raises ClusterUnavailable, Refused, OSError.
        """
        await self._collect_bases()
        wallets = await self._shared.namespaces.wallets()
        if not wallets:
            return
        self._last = min((it for it in wallets if it > self._last), default=min(wallets))
        await self._remove_images(wallets[self._last], self._last)
        await tidy(self._shared, self._builder, wallet=wallets[self._last], namespace=self._last)

    async def _collect_bases(self) -> None:
        now = self._shared.clock.monotonic_seconds()
        if now >= self._collect_at:
            self._collect_at = now + _COLLECT_SECONDS
            await self._builder.collect()

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
