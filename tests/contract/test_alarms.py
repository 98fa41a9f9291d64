"""Each alert rings when it should, and else is quiet; what alerts and dashboard name exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from moorage import metrics
from moorage.gateway import duplicate_gateway_check, vital_signs
from support.gateway.alert_cases import ALERT_CASES, DOWN
from support.gateway.gateway_fixture import REPOSITORY

RULES = REPOSITORY / "ops/prometheus/moorage.rules.yml"
DASHBOARD = REPOSITORY / "ops/grafana/moorage.json"
CASES = {"MoorageDown": DOWN, **ALERT_CASES}


def half_of_them_ring(first: int) -> dict[str, Any]:
    """A test of Prometheus: from the `first`, every other alert must ring, and the rest not."""
    ring = list(CASES)[first::2]
    input_series = [
        {"series": series, "values": bad if alert in ring else good}
        for alert, (series, bad, good) in CASES.items()
    ]
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in ring]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    looks = [{"expr": firing, "eval_time": "1d", "exp_samples": expected}]
    return {"interval": "1m", "input_series": input_series, "promql_expr_test": looks}


def promtool(*arguments: str, cwd: Path) -> None:
    command = ["promtool", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_rings_when_it_should_and_not_else(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yml")
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [half_of_them_ring(0), half_of_them_ring(1)],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(document))
    promtool("check", "rules", "rules.yml", cwd=tmp_path)
    promtool("test", "rules", "tests.yml", cwd=tmp_path)


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def test_each_alert_is_tested_and_has_advice() -> None:
    assert alerts() == list(CASES)
    advice = (REPOSITORY / "docs/run/watch.md").read_text()
    assert [name for name in alerts() if f"`{name}`" not in advice] == []


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_series_that_is_named_exists(path: Path) -> None:
    assert vital_signs.EVERY_SECONDS  # the metrics of both are there once they are imported
    assert duplicate_gateway_check.__name__
    shown = metrics.exposition()[0].decode()
    families = set(re.findall(r"^# TYPE (moorage_\w+)", shown, re.MULTILINE))
    known = families | {
        f"{name}_{part}" for name in families for part in ("bucket", "count", "sum")
    }
    named = set(re.findall(r"\bmoorage_\w+", path.read_text()))
    assert len(named) > 10
    assert named - known == set()


def test_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 39
    panels = [each for each in dashboard["panels"] if each["type"] != "row"]
    ids = [each["id"] for each in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels:
        assert panel["targets"], panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    taken = {
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    assert len(taken) == sum(each["gridPos"]["w"] * each["gridPos"]["h"] for each in panels)
