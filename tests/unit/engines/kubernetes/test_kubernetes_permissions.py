"""What the gateway asks to be allowed in a cluster."""

from kubernetes_schemas import RELEASES, validate_object
from moorage.engines.kubernetes.objects import questions


def test_gateway_reads_no_secret_and_has_no_wildcard() -> None:
    found = {(q.rule.resource, q.verb) for q in questions()}
    assert {verb for resource, verb in found if resource == "secrets"}.isdisjoint(
        {"get", "list", "watch"}
    )
    assert not any("*" in word for pair in found for word in pair)
    assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & {r for r, _ in found}


def test_question_names_subresource_and_group_as_the_api_takes_them() -> None:
    by_name = {(q.rule.resource, q.verb): q for q in questions()}
    log, deployments = by_name["pods/log", "get"], by_name["deployments", "patch"]
    assert log.review()["spec"]["resourceAttributes"] == {
        "group": "",
        "resource": "pods",
        "subresource": "log",
        "verb": "get",
    }
    assert deployments.sentence == "may not patch deployments.apps, to run apps"
    for question in by_name.values():
        validate_object(question.review(), RELEASES[-1])
