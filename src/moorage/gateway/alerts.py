"""Alerts: what is wrong with a gateway by its own metrics, as the rules of `alerts.toml` judge it.

An alert is pending while its rule's condition holds, and fires once it has held for long enough. It
ends when the condition has not held for five minutes. Rows store that, so that a restart neither
repeats nor forgets one.
"""

import tomllib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from importlib import resources
from statistics import linear_regression
from typing import Literal, NamedTuple

import msgspec
import structlog

from moorage.core import Core
from moorage.gateway.vital_signs import EVERY_SECONDS, Labels, Samples
from moorage.loop import Loop, Scope
from moorage.metrics import registry
from moorage.storage.operation import alerts
from moorage.storage.operation.alerts import Alert

log = structlog.get_logger()

SETTLE_MS = 300_000
"""How long it must be well before an alert ends, in which this process has watched it.

After a start, some metrics are measured late.
"""

KEPT_MS = 30 * 24 * 3_600_000
"""Alerts are kept for 30 days; what is wrong still is told once more then."""


class Form(StrEnum):
    """What of a series a rule compares."""

    VALUE = "value"
    INCREASE = "increase"  # of a counter, within the window
    AGE = "age"  # of a timestamp, in seconds
    LEFT = "left"  # until a timestamp that is not 0, in seconds
    AHEAD = "ahead"  # the value some time ahead, as it changes within the window


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule; `alerts.toml` describes the fields."""

    severity: Literal["page", "ticket"]
    metric: str
    summary: str
    means: str
    do: str
    see: str = ""
    labels: dict[str, str | tuple[str, ...]] = {}
    by: tuple[str, ...] | None = None
    form: Form = Form.VALUE
    above: float | None = None
    below: float | None = None
    window_seconds: int = 0
    ahead_seconds: int = 0
    for_seconds: int = 0
    shared: bool = False

    def holds(self, value: float) -> bool:
        """Returns whether the condition holds."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def series(self, samples: Samples) -> dict[Labels, float]:
        """Returns the series that are watched, added up by the labels of `by`."""
        found: dict[Labels, float] = {}
        for labels, value in samples.of(self.metric).items():
            of = dict(labels)
            if all(_is_one_of(of.get(name, ""), wanted) for name, wanted in self.labels.items()):
                key = frozenset((k, v) for k, v in labels if self.by is None or k in self.by)
                found[key] = found.get(key, 0.0) + value
        return found


def _is_one_of(value: str, wanted: str | tuple[str, ...]) -> bool:
    return value in ((wanted,) if isinstance(wanted, str) else wanted)


RULES: Mapping[str, Rule] = msgspec.convert(
    tomllib.loads(resources.files("moorage.gateway").joinpath("alerts.toml").read_text()),
    dict[str, Rule],
)


class _Reading(NamedTuple):
    at_ms: int
    series: dict[Labels, float]


class Readings:
    """What the rules compare, from samples that are taken again and again."""

    def __init__(self, rules: Mapping[str, Rule], samples: Samples, *, now_ms: int) -> None:
        """Counters grow from what they are in `samples`; from 0 where they come later."""
        self._rules = rules
        self._past = {
            name: deque([_Reading(now_ms, rule.series(samples))])
            for name, rule in rules.items()
            if rule.window_seconds
        }

    def add(self, samples: Samples, *, now_ms: int) -> Iterator[tuple[str, Labels, float]]:
        """Yields each rule's name and its series whose condition holds, with what is compared."""
        for name, rule in self._rules.items():
            series = rule.series(samples)
            if rule.window_seconds:
                past = self._past[name]
                past.append(_Reading(now_ms, series))
                while len(past) > 2 and past[1].at_ms <= now_ms - rule.window_seconds * 1000:
                    past.popleft()
            for labels, value in series.items():
                compared = self._compared(name, rule, labels, value, now_ms / 1000)
                if compared is not None and rule.holds(compared):
                    yield name, labels, compared

    def _compared(
        self, name: str, rule: Rule, labels: Labels, value: float, now_seconds: float
    ) -> float | None:
        match rule.form:
            case Form.VALUE:
                return value
            case Form.INCREASE:
                return value - self._past[name][0].series.get(labels, 0.0)
            case Form.AGE:
                return now_seconds - value
            case Form.LEFT:
                return value - now_seconds if value else None
        points = [
            (at_ms / 1000 - now_seconds, series[labels])
            for at_ms, series in self._past[name]
            if labels in series
        ]
        if len({seconds for seconds, _ in points}) < 2:
            return None
        slope, intercept = linear_regression(*zip(*points, strict=True))
        return intercept + slope * rule.ahead_seconds


def next_state(
    alert: Alert, *, holds: bool, for_ms: int, settle_ms: int, now_ms: int, since_ms: int
) -> Alert:
    """Returns an alert as it is now that its condition holds, or not.

    `for_ms` is how long it must hold, and `since_ms` when this process began to watch.
    """
    if holds:
        fires = alert.fired_ms is None and now_ms - alert.began_ms >= for_ms
        fired_ms = now_ms if fires else alert.fired_ms
        return msgspec.structs.replace(alert, fired_ms=fired_ms, well_ms=None)
    well_ms = now_ms if alert.well_ms is None else alert.well_ms
    # One that is pending ends at once, unless it is from before the start.
    unproven = alert.fired_ms is not None or alert.began_ms < since_ms
    over = now_ms - max(well_ms, since_ms) >= settle_ms or not unproven
    return msgspec.structs.replace(alert, well_ms=well_ms, ended_ms=now_ms if over else None)


class AlertWatch:
    """Evaluates rules at each tick, and records what begins, fires and ends."""

    def __init__(
        self, core: Core, *, shared: bool, title: str, sample: Callable[[], Samples] | None = None
    ) -> None:
        """It watches the rules on what all gateways see, or the rest; `title` names the gateway."""
        self._core = core
        self._shared = shared
        self._gateway = "" if shared else core.name
        self._title = title
        self._rules = {name: rule for name, rule in RULES.items() if rule.shared == shared}
        self._since_ms = core.clock.now_ms()
        names = {rule.metric for rule in self._rules.values()}
        self._sample = sample or (lambda: Samples(registry.restricted_registry(names)))
        self._readings = Readings(self._rules, self._sample(), now_ms=self._since_ms)

    async def tick(self) -> None:
        """Evaluates all rules. Raises DatabaseUnavailable."""
        now_ms = self._core.clock.now_ms()
        holding = {
            (name, _json(labels)): self._summary(name, labels, value)
            for name, labels, value in self._readings.add(self._sample(), now_ms=now_ms)
        }
        known = [each for each in await alerts.open_alerts(self._core.db) if self._is_own(each)]
        changed = list(self._changes(known, holding, now_ms))
        if not changed:
            return
        async with self._core.db.transaction(durable=False) as tx:
            for alert in changed:
                await alerts.put(tx, alert)
        for alert in changed:
            _log(alert, now_ms)

    def _is_own(self, alert: Alert) -> bool:
        """Rules that this version has no more are nobody's but the gateway's own."""
        rule = RULES.get(alert.rule)
        return alert.gateway == self._gateway and (rule is not None and rule.shared) == self._shared

    def _changes(
        self, known: Iterable[Alert], holding: Mapping[tuple[str, str], str], now_ms: int
    ) -> Iterator[Alert]:
        before = {(each.rule, each.labels): each for each in known}
        for rule, labels in [*before, *(key for key in holding if key not in before)]:
            summary, alert = holding.get((rule, labels)), before.get((rule, labels))
            new = alert or Alert(
                id=f"alr_{uuid.uuid4().hex}",
                gateway=self._gateway,
                rule=rule,
                labels=labels,
                summary=summary or "",
                began_ms=now_ms,
            )
            speed, of = self._core.speed, RULES.get(rule)
            state = next_state(
                new,
                holds=summary is not None,
                for_ms=round((of.for_seconds if of else 0) * 1000 / speed),
                settle_ms=round(SETTLE_MS / speed),
                now_ms=now_ms,
                since_ms=self._since_ms,
            )
            if summary is not None and state.fired_ms == now_ms:
                state = msgspec.structs.replace(state, summary=summary)
            if state != alert:
                yield state

    def _summary(self, name: str, labels: Labels, value: float) -> str:
        given = {"gateway": self._title, "value": f"{value:.10g}", **dict(labels)}
        return self._rules[name].summary.format_map(given)


def loops_of_alerts(core: Core, *, title: str) -> tuple[Loop, ...]:
    """Returns the loops that evaluate rules; make them before anything is counted."""
    own, shared = (AlertWatch(core, shared=each, title=title) for each in (False, True))
    every = EVERY_SECONDS

    async def forget() -> None:
        async with core.db.transaction(durable=False) as tx:
            await alerts.prune(tx, before_ms=core.clock.now_ms() - KEPT_MS)

    return (
        Loop("alerts", every_seconds=every, tick=own.tick, scope=Scope.NODE),
        Loop("shared alerts", every_seconds=every, tick=shared.tick, scope=Scope.CLUSTER),
        Loop("old alerts", every_seconds=3600, tick=forget, scope=Scope.CLUSTER),
    )


def _json(labels: Labels) -> str:
    return msgspec.json.encode(dict(sorted(labels))).decode()


def _log(alert: Alert, now_ms: int) -> None:
    details = {"rule": alert.rule, "alert_id": alert.id, "summary": alert.summary}
    if alert.fired_ms == now_ms:
        log.warning("alert", **details)
    elif alert.fired_ms is not None and alert.ended_ms is not None:
        log.info("alert is over", **details)
