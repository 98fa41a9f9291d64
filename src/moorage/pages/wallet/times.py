"""The contract's times, as pages reckon with them."""

from moorage.pages.rendering.written import ms

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def ms_or_none(iso: str | None) -> int | None:
    """Returns Unix milliseconds, of no time none."""
    return None if iso is None else ms(iso)
