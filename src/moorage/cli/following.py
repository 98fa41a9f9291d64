"""Follows a deployment until its address answers, and gives the exit code for its outcome."""

from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.sdk.client import Client
from moorage.sdk.errors import FollowTimedOut
from moorage.wire.deployments import DeploymentProgress

_STARTING = {"building": "starting", "deploying": "starting"}


async def follow(
    client: Client, screen: Screen, project_id: str, deployment_id: str, *, copies: bool = False
) -> DeploymentProgress:
    """Shows a deployment's stages until it is over; `deploying` if that takes too long.

    With `copies` it builds nothing: it starts what was built before.
    """
    names = _STARTING if copies else {}

    def show(status: DeploymentProgress) -> None:
        stage = status.deployment_status or status.status
        progress.stage(names.get(stage, stage))

    with screen.progress("queued") as progress:
        try:
            return await client.follow(project_id, deployment_id, on_status=show)
        except FollowTimedOut:
            return DeploymentProgress(status="deploying", deployment_id=deployment_id)


def exit_of(status: DeploymentProgress, *, followed: bool) -> Exit:
    """The exit code for where a deployment stands at the end of a command."""
    if status.status == "failed":
        return Exit.FAILED
    return Exit.TRY_AGAIN if followed and status.status != "ready" else Exit.OK
