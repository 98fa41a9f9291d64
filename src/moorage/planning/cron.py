"""When a schedule falls due: the five fields of cron, in a time zone, by Debian's rules.

A time that a clock skips, as summer begins, falls due right after the gap; one that comes twice
falls due the first time. Schedules whose minutes or hours begin with `*` follow the clock instead:
they skip what is skipped, and repeat what comes twice.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_FIELDS = 5
_MAX_LENGTH = 100
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}", re.ASCII)
_NO_ZONES = ("localtime", "posixrules", "posix/", "right/")  # this machine's, and other clocks


class _Cron(CronSim):
    def advance_hour(self) -> bool:
        """Does as its parent, but continues by the hour where clocks move by half of one."""
        if self.dt.hour in self.hours:
            return False
        self.dt = self.dt.replace(minute=0, second=0)
        while self.dt.hour not in self.hours:
            self.tick(seconds=3600 - 60 * self.dt.minute)
            if self.dt.hour == 0:
                break
        return True


@lru_cache(maxsize=512)
def zone(timezone: str) -> ZoneInfo:
    """Returns the zone of that name. Raises ValueError."""
    try:
        if _ZONE.fullmatch(timezone) and not timezone.startswith(_NO_ZONES):
            return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        pass
    raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin")


def check_cron(cron: str, timezone: str) -> None:
    """Raises ValueError unless it has five fields and falls due some day."""
    if len(cron) > _MAX_LENGTH or len(cron.split()) != _FIELDS:
        raise ValueError("must have five fields: minute, hour, day of month, month, day of week")
    try:
        next(due_after(cron, timezone, 0))
    except CronSimError as error:
        raise ValueError(f"is no cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("never falls due") from None


def due_after(cron: str, timezone: str, after_ms: int) -> Iterator[int]:
    """Yields the times, Unix milliseconds, at which it falls due after one, the first first."""
    last_ms = after_ms
    begin = datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(zone(timezone))
    for due in _Cron(cron, begin):
        due_ms = int(due.timestamp()) * 1000
        if due_ms > last_ms:  # times in a gap are one, and those that came a first time are over
            yield due_ms
            last_ms = due_ms
