"""Checks the Docker daemon that apps are to run in: that it answers, and holds them."""

from moorage.errors import ConfigurationInvalid
from moorage.gateway.platform import isolation
from moorage.operate.check.finding import Finding
from moorage.settings import Settings

_ENGINE = "docker"


async def check_docker(settings: Settings) -> list[Finding]:
    """Returns what is found out without changing anything; nothing if apps run elsewhere."""
    if all(kind.name != _ENGINE for kind in isolation.kinds(settings)):
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
