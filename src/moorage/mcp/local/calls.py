"""Carries out the calls of the local server's tools."""

from contextlib import suppress

from moorage.mcp.local.arguments import DeployDirectory, QuoteDirectory
from moorage.mcp.local.failures import failure
from moorage.mcp.local.purchases import Purchases, Wallet
from moorage.mcp.tools.api_request import ApiRequest
from moorage.mcp.tools.arguments import DeleteProject, SingleRequest, TopUp, WaitForDeployment
from moorage.mcp.tools.outcome import Outcome, answered
from moorage.mcp.tools.outcomes import deletion_preview, status_of
from moorage.mcp.tools.server import ToolCall
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientError, FollowTimedOut


class LocalCalls:
    """Carries out calls for the wallet of the machine's own key."""

    def __init__(self, client: Client, wallet: Wallet) -> None:
        self._client = client
        self._purchases = Purchases(client, wallet)

    async def call(self, call: ToolCall) -> Outcome:
        """Carries one out; a refusal of gateway or chain is an outcome too."""
        try:
            return await self._call(call)
        except ClientError as error:
            return failure(error)

    async def _call(self, call: ToolCall) -> Outcome:
        match call.arguments:
            case DeployDirectory() as asked:
                return await self._purchases.deploy(asked)
            case QuoteDirectory() as asked:
                return await self._purchases.quote(asked)
            case TopUp() as asked:
                return await self._purchases.top_up(asked)
            case WaitForDeployment() as asked:
                return await self._wait(asked)
            case DeleteProject() as asked:
                return await self._delete(asked)
            case SingleRequest() as asked:
                return answered(await self._ask(asked.request()))
        raise TypeError(f"{call.tool} has no such arguments")

    async def _wait(self, asked: WaitForDeployment) -> Outcome:
        with suppress(FollowTimedOut):
            await self._client.follow(
                asked.project, asked.deployment, deadline_seconds=asked.timeout_seconds
            )
        return status_of(await self._ask(asked.request()))

    async def _delete(self, asked: DeleteProject) -> Outcome:
        shown = await self._ask(asked.preview())
        if asked.confirm_name != shown["name"]:
            return deletion_preview(shown, confirmed=asked.confirm_name)
        return answered(await self._ask(asked.request()))

    async def _ask(self, request: ApiRequest) -> dict[str, object]:
        return await self._client.ask(request.method, request.path, body=request.body)
