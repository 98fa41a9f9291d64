"""What apps use, by the cluster's metrics API.

The API tells how many cores a container used in a window before a moment. Processor time is the
sum of these since this gateway began to ask; the time between two moments counts as the second.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

from moorage.engines.engine import Usage
from moorage.engines.kubernetes.cluster.client import POD_METRICS, Cluster, Refused
from moorage.engines.kubernetes.objects.app import CONTAINER
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTANCE_LABEL,
    PART_LABEL,
    Part,
)
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable

_UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def quantity(text: str) -> Decimal:
    """Returns an amount in its base unit: cores, or bytes. Raises ValueError."""
    number = text.rstrip("numkKMGTPEi")
    unit = text[len(number) :]
    try:
        return Decimal(number) * _UNITS[unit]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{text!r} is no amount") from None


logger = logging.getLogger(__name__)

_MAX_GAP_SECONDS = 120.0  # of which nothing is known, nothing is charged


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one pod used, at one moment."""

    pod: str
    deployment_id: str
    at_seconds: float  # Unix time
    cores: float
    memory_bytes: int


class Meter:
    """Adds up samples."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Sample, float]] = {}  # by pod: the last one, and milliseconds

    async def read(self, cluster: Cluster, *, instance: str) -> dict[str, Usage]:
        """Asks the cluster; returns what each app has used, and nothing if it does not measure."""
        labels = {INSTANCE_LABEL: instance, PART_LABEL: Part.APP}
        try:
            listed = await cluster.list(POD_METRICS, labels=labels)
        except (ClusterUnavailable, Refused) as error:
            logger.info("the cluster has no usage: %s", error)
            return {}
        return self.add(samples(listed.items))

    def add(self, samples: Iterable[Sample]) -> dict[str, Usage]:
        """Takes in the samples of all pods that run; returns what each app has used."""
        sums: dict[str, tuple[Sample, float]] = {}
        found: dict[str, Usage] = {}
        for sample in samples:
            last, cpu_ms = self._sums.get(sample.pod, (sample, 0.0))
            gap = min(max(0.0, sample.at_seconds - last.at_seconds), _MAX_GAP_SECONDS)
            cpu_ms += sample.cores * gap * 1000
            sums[sample.pod] = (sample, cpu_ms)
            before = found.get(sample.deployment_id, Usage(cpu_ms=0, memory_bytes=0))
            found[sample.deployment_id] = Usage(
                cpu_ms=before.cpu_ms + round(cpu_ms),
                memory_bytes=before.memory_bytes + sample.memory_bytes,
            )
        self._sums = sums
        return found


def samples(items: Iterable[Manifest]) -> list[Sample]:
    """Reads a list of PodMetrics; leaves out what is not complete."""
    found = []
    for item in items:
        try:
            used = next(it["usage"] for it in item["containers"] if it["name"] == CONTAINER)
            found.append(
                Sample(
                    pod=item["metadata"]["name"],
                    deployment_id=item["metadata"]["labels"][DEPLOYMENT_LABEL],
                    at_seconds=datetime.fromisoformat(item["timestamp"]).timestamp(),
                    cores=float(quantity(used["cpu"])),
                    memory_bytes=int(quantity(used["memory"])),
                )
            )
        except (KeyError, StopIteration, ValueError):
            continue
    return found


def allocatable(nodes: Iterable[Manifest], what: str) -> Decimal:
    """Returns how much the nodes have together for pods, of those that take new ones.

    `what` is cpu (cores) or memory (bytes).
    """
    taking = (node for node in nodes if not node.get("spec", {}).get("unschedulable"))
    amounts = (node.get("status", {}).get("allocatable", {}).get(what, "0") for node in taking)
    return sum((quantity(amount) for amount in amounts), Decimal(0))
