"""What `moorage check` finds out about the cluster that apps are to run in."""

from pathlib import Path

import pytest

from fake_kubernetes.cluster import Cluster
from moorage.operate.check.cluster import check_cluster, judge_cluster
from moorage.operate.check.machine import look_at_machine
from moorage.settings import Settings, load_settings

pytestmark = pytest.mark.root


def configured(kubeconfig: Path | str) -> Settings:
    return load_settings(
        file=None, environ={}, isolation="kubernetes", kubernetes_config=str(kubeconfig)
    )


async def test_cluster_that_allows_all_is_found_good(fake_cluster: Cluster) -> None:
    found = await check_cluster(configured(fake_cluster.kubeconfig()))
    assert [(it.name, it.ok, it.remedy) for it in found] == [
        ("cluster", True, ""),
        ("permissions", True, ""),
    ]
    assert found[0].detail.startswith("Kubernetes v1.")


async def test_each_permission_that_is_missing_is_told_with_what_it_is_for(
    fake_cluster: Cluster,
) -> None:
    for verb, plural in (
        ("patch", "namespaces"),
        ("create", "namespaces"),
        ("list", "persistentvolumeclaims"),
    ):
        fake_cluster.deny(verb, plural)
    try:
        _, *found = await check_cluster(configured(fake_cluster.kubeconfig()))
    finally:
        fake_cluster.mend()
    account = "the gateway's account may not"
    assert [it.detail for it in found] == [
        f"{account} create, patch namespaces, to give each wallet a namespace",
        f"{account} list persistentvolumeclaims, to keep apps' volumes",
    ]
    assert not any(it.ok for it in found)
    assert all("ops/kubernetes/base/permissions.yaml" in it.remedy for it in found)


async def test_cluster_that_is_configured_wrong_is_a_finding_and_no_error(tmp_path: Path) -> None:
    (found,) = await check_cluster(configured(tmp_path / "none"))
    assert (found.name, found.ok) == ("cluster", False)
    assert "kubernetes_config" in found.remedy


async def test_nothing_is_asked_where_apps_run_elsewhere() -> None:
    assert await check_cluster(load_settings(file=None, environ={}, isolation="docker")) == []


@pytest.mark.parametrize(
    ("version", "ok"),
    [("v1.30.9", False), ("v1.31.0", True), ("v1.34.1+k3s1", True), ("v2.0.0", True), ("", False)],
)
def test_cluster_is_as_new_as_the_engine_needs(version: str, ok: bool) -> None:
    found = judge_cluster(version, [])[0]
    assert (found.ok, bool(found.remedy)) == (ok, not ok)


def test_gateway_in_an_image_needs_no_programs_of_this_machine() -> None:
    assert look_at_machine(configured("")).missing_app_programs is None
    sandbox = load_settings(file=None, environ={}, isolation="root")
    assert look_at_machine(sandbox).missing_app_programs is not None
