"""Checks the Docker daemon that apps are to run in, or that builds a cluster's Dockerfiles."""

from moorage.errors import ConfigurationInvalid
from moorage.gateway.platform import isolation
from moorage.operate.check.finding import Finding
from moorage.settings import Settings

_ENGINE, _CLUSTER = "docker", "kubernetes"
_ELSEWHERE = (
    "it is another machine, which the gateway does not hold: see there that builds are bounded, and"
    " reach nothing private (docs/kubernetes.md, Dockerfiles)"
)


async def check_docker(settings: Settings) -> list[Finding]:
    """Returns what is found out without changing anything; nothing where no daemon is used."""
    used = {kind.name for kind in isolation.kinds(settings)}
    if _CLUSTER in used and settings.kubernetes_docker_host:
        return await _check_builder(settings)
    if _ENGINE not in used:
        return []
    # aiodocker is imported only where Docker is used.
    from moorage.engines.dockerd import daemon as daemons  # noqa: PLC0415

    try:
        daemon = await daemons.connect(settings.docker_host)
    except daemons.DaemonFailed as error:
        remedy = "systemctl start docker, or set docker_host right"
        return [Finding("docker", ok=False, detail=str(error), remedy=remedy)]
    except ConfigurationInvalid as error:
        detail = str(error).removeprefix("docker_host: ")
        return [Finding("docker", ok=False, detail=detail, remedy="set docker_host right")]
    try:
        lacking = [each.partition(": ") for each in daemons.lacking(daemon.info, daemon.pid)]
    finally:
        await daemon.close()
    found = [Finding("docker", ok=False, detail=what, remedy=how) for what, _, how in lacking]
    version = daemon.info.get("ServerVersion", "")
    return found or [Finding("docker", ok=True, detail=f"Docker {version}")]


async def _check_builder(settings: Settings) -> list[Finding]:
    """Returns the findings about the daemon that builds a cluster's Dockerfiles."""
    # As above.
    from moorage.engines.dockerd.daemon import DaemonFailed, connect_anywhere  # noqa: PLC0415
    from moorage.engines.dockerd.workshop import missing_for_builds  # noqa: PLC0415

    host, certificates = settings.kubernetes_docker_host, settings.kubernetes_docker_certificates
    remedy = "set kubernetes_docker_host and kubernetes_docker_certificates right"
    try:
        daemon = await connect_anywhere(host, certificates)
    except (ConfigurationInvalid, DaemonFailed) as error:
        return [Finding("dockerfiles", ok=False, detail=str(error), remedy=remedy)]
    try:
        missing = [each.partition(": ") for each in missing_for_builds(daemon)]
    finally:
        await daemon.close()
    if missing:
        return [Finding("dockerfiles", ok=False, detail=it, remedy=how) for it, _, how in missing]
    known = f"Docker {daemon.info.get('ServerVersion', '')} builds them"
    return [
        Finding(
            "dockerfiles", ok=True, detail=known if daemon.is_here else f"{known}; {_ELSEWHERE}"
        )
    ]
