from prometheus_client.parser import text_string_to_metric_families

from moorage import metrics
from moorage.errors import FailureCause


def sample(name: str, **labels: str) -> float:
    content, media_type = metrics.exposition()
    assert media_type.startswith("text/plain")
    for family in text_string_to_metric_families(content.decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return float(found.value)
    return 0.0


def test_request_is_counted_by_route_method_and_status_class() -> None:
    labels = {"route": "/a/{id}", "method": "GET", "status": "4xx"}
    before = sample("moorage_http_request_seconds_count", **labels)

    metrics.record_request(route="/a/{id}", method="GET", status=404, seconds=0.003)
    metrics.record_request(route="/a/{id}", method="GET", status=402, seconds=0.003)

    assert sample("moorage_http_request_seconds_count", **labels) == before + 2
    fast = sample("moorage_http_request_seconds_bucket", **labels, le="0.005")
    assert fast == sample("moorage_http_request_seconds_count", **labels)
    assert sample("moorage_http_request_seconds_bucket", **labels, le="0.0025") == 0


def test_invented_methods_share_one_label() -> None:
    for number in range(50):
        metrics.record_request(route="/b", method=f"M{number}", status=405, seconds=0)
    labels = {"route": "/b", "method": "other", "status": "4xx"}
    assert sample("moorage_http_request_seconds_count", **labels) == 50


def test_abandoned_request_has_a_class_of_its_own() -> None:
    metrics.record_request(route="/c", method="POST", status=None, seconds=1)
    labels = {"route": "/c", "method": "POST", "status": "none"}
    assert sample("moorage_http_request_seconds_count", **labels) == 1


def test_events_are_counted_by_their_codes() -> None:
    metrics.record_auth_failure("nonce_reused")
    metrics.record_payment(chain="base", token="usdc", outcome="credited")
    metrics.record_rpc_error("base")

    assert sample("moorage_auth_failures_total", code="nonce_reused") >= 1
    payment = {"chain": "base", "token": "usdc", "outcome": "credited"}
    assert sample("moorage_payments_total", **payment) >= 1
    assert sample("moorage_rpc_errors_total", chain="base") >= 1


def test_deployment_is_counted_by_outcome_and_cause() -> None:
    ready = sample("moorage_deployments_total", outcome="ready", cause="")
    crashed = sample("moorage_deployments_total", outcome="failed", cause="crashed")
    timed = sample("moorage_deploy_seconds_count", outcome="ready")

    metrics.record_deployment("ready", None, seconds=0.3)
    metrics.record_deployment("failed", FailureCause.CRASHED)

    assert sample("moorage_deployments_total", outcome="ready", cause="") == ready + 1
    assert sample("moorage_deployments_total", outcome="failed", cause="crashed") == crashed + 1
    assert sample("moorage_deploy_seconds_count", outcome="ready") == timed + 1


def test_gauges_are_asked_at_each_scrape() -> None:
    running: list[str] = []
    metrics.watch_running_apps(lambda: len(running))
    metrics.watch_nonces(lambda: 7)
    assert sample("moorage_running_apps") == 0
    running.append("app")
    assert sample("moorage_running_apps") == 1
    assert sample("moorage_nonces") == 7
