"""What `moorage check` finds out about the cluster that apps are to run in."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from moorage.operate.check.machine import check_cluster, inspect_machine, judge_cluster
from moorage.settings import Settings, load_settings
from support.certificates import authority_and_certificate
from support.engines.base_image import push_base
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.registry_fixture import started_registry

pytestmark = pytest.mark.root


def configured(kubeconfig: Path | str, **given: str) -> Settings:
    return load_settings(
        file=None, environ={}, isolation="kubernetes", kubernetes_config=str(kubeconfig), **given
    )


async def test_cluster_that_allows_all_is_found_good_with_the_registry_and_the_own_image(
    fake_cluster: Cluster, tmp_path: Path
) -> None:
    with started_registry(tmp_path) as server:
        await push_base(server.host, name="moorage")
        settings = configured(
            fake_cluster.kubeconfig(),
            kubernetes_registry=f"{server.host}/apps",
            kubernetes_own_image=f"{server.host}/moorage:1",
        )
        found = await check_cluster(settings)
        assert [(it.name, it.ok, it.remedy) for it in found] == [
            ("cluster", True, ""),
            ("permissions", True, ""),
            ("nodes", True, ""),
            ("registry", True, ""),
            ("own image", True, ""),
        ]
        other = msgspec.structs.replace(settings, kubernetes_own_image=f"{server.host}/moorage:2")
        assert [it.name for it in await check_cluster(other) if not it.ok] == ["own image"]
    *_, registry, own = await check_cluster(settings)  # it has ended
    assert (registry.ok, own.ok) == (False, False)
    assert (registry.blocks, own.blocks) == (False, False)  # apps do without, and so they run
    assert "registry.json in kubernetes_credentials" in registry.remedy
    assert "SSL_CERT_FILE" in registry.remedy
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
        _, *found, _, _ = await check_cluster(configured(fake_cluster.kubeconfig()))
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


@asynccontextmanager
async def tls_before(cluster: Cluster, directory: Path) -> AsyncIterator[Path]:
    """A configuration by which it is reached over TLS; its authority names no key usage."""
    authority, certificate = authority_and_certificate(directory)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    config = json.loads(cluster.kubeconfig().read_text())
    host, _, port = config["clusters"][0]["cluster"]["server"].rpartition("/")[2].partition(":")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    relays = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.current_task())
        answers, asks = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, asks), pipe(answers, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=tls) as server:
        number = server.sockets[0].getsockname()[1]
        config["clusters"][0]["cluster"] = {
            "server": f"https://127.0.0.1:{number}",
            "certificate-authority": str(authority),
        }
        (directory / "config").write_text(json.dumps(config))
        yield directory / "config"
    await asyncio.gather(*(each for each in relays if each))


async def test_authority_that_names_no_key_usage_is_trusted_as_by_kubectl(
    fake_cluster: Cluster, tmp_path: Path
) -> None:
    async with tls_before(fake_cluster, tmp_path) as kubeconfig:
        found = await check_cluster(configured(kubeconfig))
    assert [(it.name, it.ok) for it in found[:2]] == [("cluster", True), ("permissions", True)]


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
    assert inspect_machine(configured("")).missing_app_programs is None
    sandbox = load_settings(file=None, environ={}, isolation="root")
    assert inspect_machine(sandbox).missing_app_programs is not None
