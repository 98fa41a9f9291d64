"""The price of a deploy, from its size and its months."""

import msgspec

from moorage.money import MicroUsd

MIB_PER_GIB = 1024
MILLIS_PER_CPU = 1000


class Size(msgspec.Struct, frozen=True):
    """The resources of one replica of an app, and the number of replicas."""

    memory_mib: int = 512
    cpu_millis: int = 500
    disk_mib: int = 1024
    replicas: int = 1


class PriceList(msgspec.Struct, frozen=True):
    """The operator's prices."""

    memory_gib_month: MicroUsd = MicroUsd(500_000)
    cpu_month: MicroUsd = MicroUsd(500_000)
    minimum_charge: MicroUsd = MicroUsd(500_000)

    def month(self, size: Size) -> MicroUsd:
        """Returns the price of one month of `size`, rounded up to the micro-USD."""
        memory = _ceil_div(self.memory_gib_month * size.memory_mib, MIB_PER_GIB)
        cpu = _ceil_div(self.cpu_month * size.cpu_millis, MILLIS_PER_CPU)
        return MicroUsd((memory + cpu) * size.replicas)

    def deploy(self, size: Size, *, months: int) -> MicroUsd:
        """Returns the price of a deploy (contract 1.2): its months, at least the minimum charge."""
        return MicroUsd(max(self.minimum_charge, self.month(size) * months))


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
