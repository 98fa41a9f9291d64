"""Makes Prometheus' rules and the table of docs/run/watch.md from gateway/alerts.toml.

Usage: .venv/bin/python scripts/alert-rules.py > ops/prometheus/moorage.rules.yml
       .venv/bin/python scripts/alert-rules.py table
"""

import json
import re
import sys
from collections.abc import Mapping

from moorage.gateway.alerts import RULES, Form, Rule

HEAD = """\
# Alerts of a Moorage gateway, made by scripts/alert-rules.py from src/moorage/gateway/alerts.toml.
# docs/run/watch.md says what to do when one rings.
# Scrape /metrics of the operator's port as job "moorage".
groups:
  - name: moorage
    rules:
      - alert: MoorageDown
        expr: up{job="moorage"} == 0
        for: 2m
        labels: { severity: page }
        annotations:
          summary: "{{ $labels.instance }} does not answer; its apps run on, \
but nothing is deployed, metered or restarted"
"""
DOWN = (
    "- **`MoorageDown`** (page): `systemctl status moorage`, `journalctl -u moorage -o cat -n 50`; "
    "apps run on meanwhile\n"
)


def rules_file() -> str:
    """Prometheus' rules: one that a gateway cannot tell of itself, and the gateway's own."""
    return HEAD + "".join(_alert(name, rule) for name, rule in RULES.items())


def _alert(name: str, rule: Rule) -> str:
    lines = [f"- alert: {name}", f"  expr: {_expression(rule)}"]
    if rule.for_seconds:
        lines.append(f"  for: {_duration(rule.for_seconds)}")
    lines += [
        f"  labels: {{ severity: {rule.severity} }}",
        "  annotations:",
        f"    summary: {json.dumps(_templated(rule.summary))}",
        f"    description: {json.dumps(rule.do)}",
    ]
    return "\n" + "".join(f"      {line}\n" for line in lines)


def _expression(rule: Rule) -> str:
    series = rule.metric + _selector(rule.labels)
    window = f"[{_duration(rule.window_seconds)}]"
    compared = {
        Form.VALUE: series,
        Form.INCREASE: f"increase({series}{window})",
        Form.AGE: f"time() - {series}",
        Form.LEFT: f"{series} > 0 and {series} - time()",
        Form.AHEAD: f"predict_linear({series}{window}, {rule.ahead_seconds})",
    }[rule.form]
    if rule.by is not None:
        compared = f"sum by ({', '.join(('instance', *rule.by))}) ({compared})"
    sign, bound = (">", rule.above) if rule.above is not None else ("<", rule.below)
    return f"{compared} {sign} {bound:.15g}"


def _selector(labels: Mapping[str, str | tuple[str, ...]]) -> str:
    wanted = (
        f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"'
        for name, value in labels.items()
    )
    return f"{{{','.join(wanted)}}}" if labels else ""


def _templated(summary: str) -> str:
    """The summary with Prometheus' placeholders in place of ours."""
    prometheus = {"gateway": "$labels.instance", "value": "$value"}
    return re.sub(
        r"\{(\w+)\}",
        lambda found: f"{{{{ {prometheus.get(found[1], '$labels.' + found[1])} }}}}",
        summary,
    )


def _duration(seconds: int) -> str:
    size, unit = next((n, u) for n, u in ((3600, "h"), (60, "m"), (1, "s")) if seconds % n == 0)
    return f"{seconds // size}{unit}"


def table() -> str:
    """The list of alerts, for docs/run/watch.md."""
    return DOWN + "".join(_row(name, rule) for name, rule in RULES.items())


def _row(name: str, rule: Rule) -> str:
    more = f"; [more]({rule.see.removeprefix('watch.md')})" if rule.see else ""
    return f"- **`{name}`** ({rule.severity}): {rule.do}{more}\n"


if __name__ == "__main__":
    print(table() if sys.argv[1:] == ["table"] else rules_file(), end="")
