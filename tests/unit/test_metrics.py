from prometheus_client.parser import text_string_to_metric_families

from moorage import metrics
from moorage.errors import FailureCause, PaymentAlreadyUsed, RateLimited
from moorage.gateway import vital_signs


def sample(name: str, **labels: str) -> float:
    content, media_type = metrics.exposition()
    assert media_type.startswith("text/plain")
    for family in text_string_to_metric_families(content.decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return float(found.value)
    return 0.0


class Added:
    """How much a sample has grown since this was made: others count in the same process."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = sample(name, **labels)

    def __call__(self) -> float:
        return sample(self._name, **self._labels) - self._before


def test_request_is_counted_by_route_method_and_status_class() -> None:
    labels = {"route": "/a/{id}", "method": "GET", "status": "4xx"}
    count = Added("moorage_http_request_seconds_count", **labels)
    within = {
        le: Added("moorage_http_request_seconds_bucket", **labels, le=le)
        for le in ("0.0025", "0.005")
    }

    metrics.record_request(route="/a/{id}", method="GET", status=404, seconds=0.003)
    metrics.record_request(route="/a/{id}", method="GET", status=402, seconds=0.003)

    assert count() == 2
    assert {le: added() for le, added in within.items()} == {"0.0025": 0, "0.005": 2}


def test_invented_methods_share_one_label() -> None:
    labels = {"route": "/b", "method": "other", "status": "4xx"}
    count = Added("moorage_http_request_seconds_count", **labels)
    for number in range(50):
        metrics.record_request(route="/b", method=f"M{number}", status=405, seconds=0)
    assert count() == 50


def test_abandoned_request_has_a_class_of_its_own() -> None:
    labels = {"route": "/c", "method": "POST", "status": "none"}
    count = Added("moorage_http_request_seconds_count", **labels)
    metrics.record_request(route="/c", method="POST", status=None, seconds=1)
    assert count() == 1


def test_events_are_counted_by_their_codes() -> None:
    payment = {"chain": "base", "token": "usdc", "outcome": "credited"}
    failures = Added("moorage_auth_failures_total", code="nonce_reused")
    payments = Added("moorage_payments_total", **payment)
    rpc_errors = Added("moorage_rpc_errors_total", chain="base", node="2")

    metrics.AUTH_FAILURES.labels("nonce_reused").inc()
    metrics.PAYMENTS.labels(*payment.values()).inc()
    metrics.record_node("base", 2, answered=False)
    assert sample("moorage_node_up", chain="base", node="2") == 0
    metrics.record_node("base", 2, answered=True)
    assert sample("moorage_node_up", chain="base", node="2") == 1

    assert (failures(), payments(), rpc_errors()) == (1, 1, 1)


def test_deployment_is_counted_by_outcome_and_cause() -> None:
    ready = Added("moorage_deployments_total", outcome="ready", cause="")
    crashed = Added("moorage_deployments_total", outcome="failed", cause="crashed")
    timed = Added("moorage_deploy_seconds_count", outcome="ready")

    metrics.record_deployment("ready", None, seconds=0.3)
    metrics.record_deployment("failed", FailureCause.CRASHED)

    assert (ready(), crashed(), timed()) == (1, 1, 1)


def test_gauges_are_asked_at_each_scrape() -> None:
    running: list[str] = []
    vital_signs.RUNNING_APPS.set_function(lambda: len(running))
    vital_signs.NONCES.set_function(lambda: 7)
    assert sample("moorage_running_apps") == 0
    running.append("app")
    assert sample("moorage_running_apps") == 1
    assert sample("moorage_nonces") == 7


def test_series_of_a_chain_are_there_before_anything_is_counted() -> None:
    metrics.declare_chain("optimism", ["usdc"], nodes=2)
    shown = metrics.exposition()[0].decode()
    for line in (
        'moorage_payments_total{chain="optimism",outcome="credited",token="usdc"} 0.0',
        'moorage_payments_total{chain="optimism",outcome="chain_unavailable",token="usdc"} 0.0',
        'moorage_rpc_errors_total{chain="optimism",node="2"} 0.0',
        'moorage_payments_reversed_total{chain="optimism"} 0.0',
        'moorage_settlements_total{chain="optimism",outcome="failed"} 0.0',
        'moorage_webhook_attempts_total{outcome="given_up"} ',  # others count it as well
        *(
            f'moorage_deployments_total{{cause="{each}",outcome="failed"}} '
            for each in FailureCause
        ),
    ):
        assert f"\n{line}" in shown


def test_every_labelled_counter_has_a_series_from_the_start() -> None:
    """But those whose labels only a request, a chain or a backup can tell."""
    metrics.declare_chain("optimism", ["usdc"], nodes=1)
    later = {"moorage_http_request_seconds", "moorage_relayer_balance_wei"}
    later |= {"moorage_relayer_reverted_wei", "moorage_part_ready", "moorage_deploy_seconds"}
    later |= {"moorage_upkeep_timestamp_seconds", "moorage_audit_findings"}
    later |= {"moorage_upkeep_failed"}
    later |= {"moorage_search_idle_seconds", "moorage_refunds_queued"}
    later |= {"moorage_treasury_gas_wei", "moorage_treasury_tokens"}
    content = metrics.exposition()[0].decode()
    empty = {
        family.name
        for family in text_string_to_metric_families(content)
        if not family.samples and family.name.startswith("moorage_")
    }
    assert empty - later == set()


def test_refusals_are_counted_by_the_code_of_their_error() -> None:
    assert metrics.refusal_label(PaymentAlreadyUsed()) == "payment_already_used"
    assert metrics.refusal_label(RateLimited(1)) == "rate_limited"
