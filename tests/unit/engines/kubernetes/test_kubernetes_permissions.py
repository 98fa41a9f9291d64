"""What the gateway asks to be allowed in a cluster."""

from moorage.engines.kubernetes.objects.permissions import questions, sentences
from support.engines.kubernetes_schemas import RELEASES, validate_object


def test_gateway_reads_no_secret_and_has_no_wildcard() -> None:
    found = {(q.rule.resource, q.verb) for q in questions()}
    assert {verb for resource, verb in found if resource == "secrets"}.isdisjoint(
        {"get", "list", "watch"}
    )
    assert not any("*" in word for pair in found for word in pair)
    assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & {r for r, _ in found}


def test_question_names_subresource_and_group_as_the_api_takes_them() -> None:
    by_name = {(q.rule.resource, q.verb): q for q in questions()}
    log = by_name["pods/log", "get"]
    assert log.review()["spec"]["resourceAttributes"] == {
        "group": "",
        "resource": "pods",
        "subresource": "log",
        "verb": "get",
    }
    for question in by_name.values():
        validate_object(question.review(), RELEASES[-1])


def test_what_is_refused_is_told_once_for_each_resource_with_what_it_is_for() -> None:
    refused = [q for q in questions() if q.rule.resource in {"deployments", "secrets"}]
    assert sentences(refused) == [
        "may not create, patch, delete secrets, to give apps their variables",
        "may not get, create, patch, delete deployments.apps, to run apps",
    ]
    assert sentences([]) == []
