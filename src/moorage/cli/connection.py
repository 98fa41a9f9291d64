"""The flags that name a command's gateway, key and chains, and what a command is given."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import Parameter as Argument
from inspect import signature
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

from cyclopts import Parameter

from moorage.cli.screen import Screen, say
from moorage.sdk.client import Client
from moorage.sdk.connection import Connection, Named, find_connection
from moorage.sdk.errors import ClientError, TooManyRequests

_NOTICED_SECONDS = 2


@Parameter(name="*", group="Connection")
@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags that every client command shares."""

    gateway: Annotated[str | None, Parameter(help="Gateway address [env: MOORAGE_GATEWAY]")] = None
    key_file: Annotated[
        Path | None,
        Parameter(help="File with the wallet's private key [env: MOORAGE_PRIVATE_KEY]"),
    ] = None
    wallet: Annotated[int, Parameter(help="Which wallet of dev.json")] = 0
    rpc_url: Annotated[
        list[str] | None,
        Parameter(help="A chain's node, as CHAIN=URL [env: MOORAGE_RPC_URL_<CHAIN>]"),
    ] = None
    data_dir: Annotated[
        Path | None, Parameter(help="Where dev.json is: .moorage [env: MOORAGE_DATA_DIR]")
    ] = None
    state_dir: Annotated[
        Path | None,
        Parameter(help="Where payments are recorded [env: MOORAGE_STATE_DIR]"),
    ] = None
    bound: Annotated[
        bool,
        Parameter(
            help="Sign for this gateway and request alone [env: MOORAGE_BOUND_SIGNATURES]",
            negative=(),
        ),
    ] = False
    on_behalf_of: Annotated[
        str | None,
        Parameter(help="The wallet you act for as its delegate [env: MOORAGE_ON_BEHALF_OF]"),
    ] = None
    json: Annotated[
        bool, Parameter(help="One JSON document on stdout", negative=(), group="Output")
    ] = False

    def connection(self) -> Connection:
        """What these name, or else the environment and dev.json. Raises ClientMisconfigured."""
        named = {name: of for name, of in vars(self).items() if name != "json"}
        return find_connection(Named(**named))


DEFAULTS = Options()


class WaitTeller:
    """Says on stderr why a call waits, if it waits long; never the same twice in a row."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, seconds: float, because: ClientError) -> None:
        """Says that a call waits `seconds`."""
        if seconds < _NOTICED_SECONDS:
            return
        text = wait_text(seconds, because)
        if text != self._told:
            self._told = text
            say(text)


def wait_text(seconds: float, because: ClientError) -> str:
    """A sentence about a wait, for a person."""
    if isinstance(because, TooManyRequests):
        return f"The gateway asks for fewer requests: waiting {ceil(seconds)} s."
    return f"Waiting {ceil(seconds)} s to try again: {because.message}"


class Session:
    """One run of a command: its output, and the gateway once that is asked."""

    def __init__(self, options: Options, closing: AsyncExitStack) -> None:
        self.screen = Screen(json=options.json)
        self._options = options
        self._closing = closing

    @cached_property
    def connection(self) -> Connection:
        """Gateway, key and chains. Raises ClientMisconfigured."""
        return self._options.connection()

    async def client(self) -> Client:
        """A client that signs as the wallet. Raises ClientMisconfigured."""
        return await self._closing.enter_async_context(self.connection.signed_client(WaitTeller()))

    async def public_client(self) -> Client:
        """A client for what anybody may ask. Raises ClientMisconfigured."""
        return await self._closing.enter_async_context(self.connection.public_client(WaitTeller()))


_Flags = ParamSpec("_Flags")


def client_command(
    command: Callable[Concatenate[Session, _Flags], Awaitable[int | None]],
) -> Callable[..., int | None]:
    """Makes `command` a function that takes the flags of `Options` in place of a session."""

    @wraps(command)
    def run(*arguments: Any, options: Options = DEFAULTS, **flags: Any) -> int | None:
        async def carry_out() -> int | None:
            async with AsyncExitStack() as closing:
                return await command(Session(options, closing), *arguments, **flags)

        return asyncio.run(carry_out())

    own = signature(command)
    shared = Argument("options", Argument.KEYWORD_ONLY, default=DEFAULTS, annotation=Options)
    parameters = [*list(own.parameters.values())[1:], shared]
    vars(run)["__signature__"] = own.replace(parameters=parameters)
    return run
