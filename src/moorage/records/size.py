"""A size: what an app may use, and what that costs a month, awake and asleep."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from moorage.errors import InvalidField
from moorage.money import MicroUsd

STANDARD = "standard"
"""The size of a project for which none was chosen."""

SIZE_NAME = r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"

_MIB_PER_GIB = 1024
_MILLIS_PER_CPU = 1000
_MIN_MEMORY_MIB = 64
_MIN_CPU_MILLIS = 50
_LARGE = 4  # times standard; small is half of it

_Price = Annotated[int, Meta(ge=0)] | None


class SizeSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `[[sizes]]`. What is null is as the standard size has it, or by the unit prices."""

    name: Annotated[str, Meta(pattern=rf"^{SIZE_NAME}\Z")]
    memory_mib: Annotated[int, Meta(ge=_MIN_MEMORY_MIB)] | None = None
    cpu_millis: Annotated[int, Meta(ge=_MIN_CPU_MILLIS)] | None = None
    disk_mib: Annotated[int, Meta(ge=64)] | None = None
    volume_mib: Annotated[int, Meta(ge=32)] | None = None
    month_micro_usd: _Price = None
    asleep_month_micro_usd: _Price = None
    sold: bool = True  # false: only those projects have it that have it already


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What an app of this size may use; prices are the list's, of a month."""

    name: str = STANDARD
    memory_mib: int = 512
    cpu_millis: int = 500
    disk_mib: int = 1024
    volume_mib: int = 1024
    month: MicroUsd = MicroUsd(500_000)
    asleep_month: MicroUsd = MicroUsd(200_000)
    sold: bool = True


class SizePrice(NamedTuple):
    """What a project pays for a size, a month."""

    month: MicroUsd
    asleep_month: MicroUsd


class PriceList(msgspec.Struct, frozen=True):
    """The operator's prices."""

    memory_gib_month: MicroUsd = MicroUsd(500_000)
    cpu_month: MicroUsd = MicroUsd(500_000)
    disk_gib_month: MicroUsd = MicroUsd(100_000)
    minimum_charge: MicroUsd = MicroUsd(500_000)

    def month(self, *, memory_mib: int, cpu_millis: int) -> MicroUsd:
        """Returns the price of a month of memory and CPU, rounded up to the micro-USD."""
        memory = _ceil_div(self.memory_gib_month * memory_mib, _MIB_PER_GIB)
        return MicroUsd(memory + _ceil_div(self.cpu_month * cpu_millis, _MILLIS_PER_CPU))

    def deploy(self, size: Size, *, months: int) -> MicroUsd:
        """Returns the price of a deploy (contract 1.2): its months, at least the minimum charge."""
        return MicroUsd(max(self.minimum_charge, size.month * months))

    def sizes(self, standard: Size | None = None, *, listed: Sequence[SizeSetting] = ()) -> "Sizes":
        """Returns the sizes by what they have, smallest first, each with its price.

        `standard` is among them, with what its own setting changes. Without a list there are two
        more: half of it, and four times its memory and CPU on twice its disk.
        """
        standard = standard or Size()
        settings = {each.name: each for each in listed or _usual(standard)}
        if len(settings) < len(listed):
            raise InvalidField("sizes", "must have names that differ")
        settings = {STANDARD: SizeSetting(name=STANDARD)} | settings
        made = [self._made(standard, each) for each in settings.values()]
        return Sizes(tuple(sorted(made, key=lambda it: (it.memory_mib, it.cpu_millis, it.month))))

    def _made(self, standard: Size, listed: SizeSetting) -> Size:
        memory_mib = listed.memory_mib or standard.memory_mib
        cpu_millis = listed.cpu_millis or standard.cpu_millis
        disk_mib = listed.disk_mib or standard.disk_mib
        volume_mib = listed.volume_mib or standard.volume_mib
        month, asleep = listed.month_micro_usd, listed.asleep_month_micro_usd
        if month is None:
            month = self.month(memory_mib=memory_mib, cpu_millis=cpu_millis)
        if asleep is None:
            disks = _ceil_div(self.disk_gib_month * (disk_mib + volume_mib), _MIB_PER_GIB)
            asleep = min(month, disks)
        return Size(
            name=listed.name,
            memory_mib=memory_mib,
            cpu_millis=cpu_millis,
            disk_mib=disk_mib,
            volume_mib=volume_mib,
            month=MicroUsd(month),
            asleep_month=MicroUsd(asleep),
            sold=listed.sold,
        )


class Sizes(msgspec.Struct, frozen=True):
    """The operator's sizes, smallest first."""

    listed: tuple[Size, ...]

    @property
    def default(self) -> Size:
        """The size of a project for which none was chosen."""
        return self.of(STANDARD)

    @property
    def largest(self) -> Size:
        """The most of everything that any of them has."""
        most = {
            name: max(getattr(each, name) for each in self.listed)
            for name in ("memory_mib", "cpu_millis", "disk_mib", "volume_mib")
        }
        return msgspec.structs.replace(self.default, **most)

    def chosen(self, name: str, *, now: str, has_volume: bool, field: str) -> Size:
        """Returns the size that a project of the size `now` is to have.

        Raises InvalidField for one that there is not, or is not sold, or whose volume is smaller
        than that which the project has: a volume never shrinks.
        """
        size, present = self.of(name, field=field), self.of(now)
        if name != now and not size.sold:
            self.of("", field=field)
        if has_volume and size.volume_mib < present.volume_mib:
            problem = f"has a volume of {size.volume_mib} MiB, and the project's has "
            problem += f"{present.volume_mib} MiB: a volume never shrinks"
            raise InvalidField(field, problem)
        return size

    def of(self, name: str, *, field: str = "") -> Size:
        """Returns the size of this name; of a `field`, it raises InvalidField with those sold.

        Without one, a name that is no longer listed, of a project that has it, is the standard.
        """
        for each in self.listed:
            if each.name == name:
                return each
        if not field:
            return self.default
        sold = ", ".join(each.name for each in self.listed if each.sold)
        raise InvalidField(field, f"must be one of the sizes here: {sold}")


def _usual(standard: Size) -> tuple[SizeSetting, ...]:
    return (
        SizeSetting(
            name="small",
            memory_mib=max(_MIN_MEMORY_MIB, standard.memory_mib // 2),
            cpu_millis=max(_MIN_CPU_MILLIS, standard.cpu_millis // 2),
        ),
        SizeSetting(
            name="large",
            memory_mib=standard.memory_mib * _LARGE,
            cpu_millis=standard.cpu_millis * _LARGE,
            disk_mib=standard.disk_mib * 2,
        ),
    )


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
