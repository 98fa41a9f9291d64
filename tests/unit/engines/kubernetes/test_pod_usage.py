from typing import Any

import pytest

from moorage.engines.engine import Usage
from moorage.engines.kubernetes.running.usage import Meter, allocatable_bytes, quantity, samples


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("250m", 0.25), ("2", 2), ("12345678n", 0.012345678), ("1500u", 0.0015),
        ("128Mi", 128 * 2**20), ("64M", 64_000_000), ("1.5Gi", 1.5 * 2**30), ("1e3", 1000),
        ("2E", 2 * 10**18), ("0", 0),
    ],
)  # fmt: skip
def test_amounts_are_read_in_every_unit(text: str, amount: float) -> None:
    assert float(quantity(text)) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "Mi", "12Xi", "1.2.3"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        quantity(text)


def measured(second: int, *, cpu: str = "500m", pod: str = "p") -> dict[str, Any]:
    return {
        "metadata": {"name": pod, "labels": {"moorage.dev/deployment": "one"}},
        "timestamp": f"2026-01-01T00:00:{second:02}Z",
        "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": "10Mi"}}],
    }


def test_processor_time_is_the_sum_of_what_was_told() -> None:
    meter = Meter()
    seen = [meter.add(samples([measured(at)]))["one"].cpu_ms for at in (0, 10, 10, 30)]
    assert seen == [0, 5_000, 5_000, 15_000]


def test_pod_in_place_of_another_begins_anew() -> None:
    meter = Meter()
    meter.add(samples([measured(0)]))
    meter.add(samples([measured(10)]))
    assert meter.add(samples([measured(20, pod="q")])) == {
        "one": Usage(cpu_ms=0, memory_bytes=10 * 2**20)
    }


def test_what_is_not_complete_is_left_out() -> None:
    broken: list[dict[str, Any]] = [
        {**measured(0), "containers": []},
        {**measured(0), "metadata": {}},
    ]
    assert samples([*broken, measured(1, cpu="much")]) == []


def test_memory_is_that_of_nodes_that_take_pods() -> None:
    def node(**spec: Any) -> dict[str, Any]:
        return {"spec": spec, "status": {"allocatable": {"memory": "1Gi"}}}

    assert allocatable_bytes([node(), node(), node(unschedulable=True), {}]) == 2 * 2**30
