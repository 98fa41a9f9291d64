"""What Kubernetes' API does that the engine relies on.

Runs against the fake cluster, or against a real one: MOORAGE_TEST_KUBECONFIG, MOORAGE_TEST_IMAGE.
"""

import pytest

from support.engines.kubernetes_client import (
    KubernetesClient,
    Manifest,
    Refused,
    name_of,
    namespace_at,
)

pytestmark = pytest.mark.root


def config_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_what_is_not_there_is_not_found(api: KubernetesClient, namespace: str) -> None:
    with pytest.raises(Refused) as refused:
        await api.answer("GET", f"{namespace}/configmaps/none")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")


async def test_name_is_given_once(api: KubernetesClient, namespace: str) -> None:
    await api.answer("POST", f"{namespace}/configmaps", config_map("one"))
    with pytest.raises(Refused) as refused:
        await api.answer("POST", f"{namespace}/configmaps", config_map("one"))
    assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")


async def test_apply_creates_changes_and_leaves_alone(
    api: KubernetesClient, namespace: str
) -> None:
    path = f"{namespace}/configmaps/one"
    code, created = await api.apply(path, config_map("one", a="1"))
    assert code == 201
    code, changed = await api.apply(path, config_map("one", a="2"))
    assert (code, changed["data"]) == (200, {"a": "2"})
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    assert changed["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
    _, same = await api.apply(path, config_map("one", a="2"))
    assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


async def test_apply_removes_what_it_names_no_more(api: KubernetesClient, namespace: str) -> None:
    path = f"{namespace}/configmaps/one"
    await api.apply(path, config_map("one", a="1", b="1"))
    await api.apply(path, config_map("one", c="1"), manager="other")
    _, found = await api.apply(path, config_map("one", a="1"))
    assert found["data"] == {"a": "1", "c": "1"}


async def test_apply_takes_no_field_of_another_unless_forced(
    api: KubernetesClient, namespace: str
) -> None:
    path = f"{namespace}/configmaps/one"
    await api.apply(path, config_map("one", a="1"))
    await api.apply(path, config_map("one", a="1"), manager="other", force=False)  # both say so
    with pytest.raises(Refused) as refused:
        await api.apply(path, config_map("one", a="2"), manager="third", force=False)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    _, found = await api.apply(path, config_map("one", a="2"), manager="third")
    assert found["data"] == {"a": "2"}


async def test_write_to_an_older_version_conflicts(api: KubernetesClient, namespace: str) -> None:
    path = f"{namespace}/configmaps/one"
    _, first = await api.apply(path, config_map("one", a="1"))
    await api.apply(path, config_map("one", a="2"))
    with pytest.raises(Refused) as refused:
        await api.answer("PUT", path, {**first, "data": {"a": "3"}})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")


async def test_list_comes_in_pages_of_one_moment(api: KubernetesClient, namespace: str) -> None:
    for name in "abc":
        labels = {"labels": {"part": "yes"}}
        body = config_map(name)
        await api.apply(
            f"{namespace}/configmaps/{name}", body | {"metadata": {"name": name, **labels}}
        )
    path, query = f"{namespace}/configmaps", {"labelSelector": "part=yes", "limit": "2"}
    first = await api.answer("GET", path, **query)
    await api.delete(f"{namespace}/configmaps/c")
    rest = await api.answer("GET", path, **query, **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert first["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]


async def test_watch_tells_what_follows_a_list(api: KubernetesClient, namespace: str) -> None:
    path = f"{namespace}/configmaps"
    await api.apply(f"{path}/before", config_map("before"))
    listed = await api.answer("GET", path)
    await api.apply(f"{path}/one", config_map("one", a="1"))
    version = listed["metadata"]["resourceVersion"]
    async with api.watch(path, resourceVersion=version, fieldSelector="metadata.name=one") as found:
        await api.apply(f"{path}/one", config_map("one", a="2"))
        await api.delete(f"{path}/one")
        events = [await anext(found) for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event["object"]["data"]["a"] for event in events] == ["1", "2", "2"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


async def test_watch_tells_as_deleted_what_loses_its_label(
    api: KubernetesClient, namespace: str
) -> None:
    path = f"{namespace}/configmaps"
    labelled = config_map("one") | {"metadata": {"name": "one", "labels": {"part": "yes"}}}
    _, found = await api.apply(f"{path}/one", labelled)
    version = found["metadata"]["resourceVersion"]
    async with api.watch(path, resourceVersion=version, labelSelector="part=yes") as events:
        await api.apply(f"{path}/one", config_map("one"))
        assert (await anext(events))["type"] == "DELETED"


async def test_watch_from_a_forgotten_version_is_gone(
    api: KubernetesClient, namespace: str
) -> None:
    async with api.watch(f"{namespace}/configmaps", resourceVersion="1") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_watch_ends_when_its_time_is_up(api: KubernetesClient, namespace: str) -> None:
    listed = await api.answer("GET", f"{namespace}/secrets")
    version = listed["metadata"]["resourceVersion"]
    query = {"allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": "1"}
    async with api.watch(f"{namespace}/secrets", **query) as events:
        assert {event["type"] async for event in events} <= {"BOOKMARK"}


async def test_plain_text_of_a_secret_becomes_data(api: KubernetesClient, namespace: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "one"},
        "stringData": {"a": "text"},
    }
    _, found = await api.apply(f"{namespace}/secrets/one", body)
    assert (found["data"], found["type"]) == ({"a": "dGV4dA=="}, "Opaque")
    assert "stringData" not in found


async def test_namespace_takes_its_content_along_and_gets_nothing_new(
    api: KubernetesClient, namespace: str
) -> None:
    kept = config_map("kept")
    kept["metadata"]["finalizers"] = ["moorage.dev/test"]
    await api.apply(f"{namespace}/configmaps/kept", kept)
    await api.apply(f"{namespace}/configmaps/other", config_map("other"))
    await api.delete(namespace)
    assert (await api.answer("GET", namespace))["status"]["phase"] == "Terminating"
    with pytest.raises(Refused) as refused:
        await api.apply(f"{namespace}/configmaps/new", config_map("new"))
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    await api.until_gone(f"{namespace}/configmaps/other")
    assert await api.has(f"{namespace}/configmaps/kept")
    await api.merge(f"{namespace}/configmaps/kept", {"metadata": {"finalizers": None}})
    await api.until_gone(namespace)
    await api.apply(namespace, namespace_at(namespace))


async def test_access_review_says_what_one_may(api: KubernetesClient, namespace: str) -> None:
    asked = {"verb": "list", "group": "", "resource": "pods", "namespace": name_of(namespace)}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    found = await api.answer("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    assert found["status"]["allowed"] is True


def claim(storage: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "one"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": storage}},
        },
    }


def policy(port: int, blocked: str) -> Manifest:
    block = {"cidr": "0.0.0.0/0", "except": [blocked]}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": port, "protocol": "TCP"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "one"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]},
    }


async def test_values_that_make_no_sense_are_invalid(api: KubernetesClient, namespace: str) -> None:
    policies = namespace.replace("/api/v1", "/apis/networking.k8s.io/v1") + "/networkpolicies/one"
    for path, body in (
        (f"{namespace}/persistentvolumeclaims/one", claim("0")),
        (policies, policy(0, "10.0.0.0/8")),
        (policies, policy(80, "fd00::/8")),
    ):
        with pytest.raises(Refused) as refused:
            await api.apply(path, body)
        assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    await api.apply(policies, policy(80, "10.0.0.0/8"))


async def test_size_of_a_claim_may_not_shrink(api: KubernetesClient, namespace: str) -> None:
    path = f"{namespace}/persistentvolumeclaims/one"
    await api.apply(path, claim("2Mi"))
    with pytest.raises(Refused) as refused:
        await api.apply(path, claim("1Mi"))
    assert refused.value.code in {403, 422}
