"""Where a command finds its gateway, key and chains: flags, then environment, then dev.json.

`dev.json` is what `moorage dev` writes while it runs. Its keys and nodes serve its own gateway
only, so it is ignored when a flag or the environment names another gateway.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import Parameter as Argument
from inspect import signature
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import msgspec
from cyclopts import Parameter

from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.cli.screen import Screen, say
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientError, ClientMisconfigured, TooManyRequests
from moorage.sdk.signer import Signer
from moorage.sdk.transport import normalise_gateway_url

_NOTICED_SECONDS = 2
_NO_GATEWAY = (
    "no gateway is named and none runs here: start one with `make dev`, "
    "or pass --gateway URL, or set MOORAGE_GATEWAY"
)
_NO_KEY = (
    "no private key: set MOORAGE_PRIVATE_KEY or pass --key-file PATH "
    "(keys are never taken from the command line)"
)
_NOT_YOURS = (
    "is only for the user who runs `moorage dev`: give this command as that user (sudo, say), "
    "or pass --gateway URL and a key of your own"
)


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


DEFAULTS = Options()


class Connection(msgspec.Struct, frozen=True):
    """What was found. `private_key` is None without one; `warnings` are for a person."""

    gateway: str
    private_key: str | None
    chains: dict[str, Chain]
    state_dir: Path
    bound: bool = False  # whether signatures cover the request
    on_behalf_of: str | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Connection({self.gateway})"  # never the key

    def required_key(self) -> str:
        """The private key. Raises ClientMisconfigured, saying where one may come from."""
        if self.private_key is None:
            raise ClientMisconfigured(_NO_KEY)
        return self.private_key

    def signed_client(self) -> Client:
        """A client that signs as the wallet. Raises ClientMisconfigured without a key."""
        return self._client(Signer(self.required_key()))

    def public_client(self) -> Client:
        """A client for what anybody may ask."""
        return self._client(None)

    def _client(self, signer: Signer | None) -> Client:
        return Client(
            self.gateway,
            signer,
            bound=self.bound,
            on_behalf_of=self.on_behalf_of,
            on_wait=WaitTeller(),
        )


class _DevChain(msgspec.Struct, frozen=True):
    chain_id: int
    rpc_url: str
    tokens: dict[str, str]


class _DevWallet(msgspec.Struct, frozen=True):
    address: str
    private_key: str


class DevFile(msgspec.Struct, frozen=True):
    """The part of dev.json that clients use."""

    gateway: str
    chains: dict[str, _DevChain]
    wallets: tuple[_DevWallet, ...]


def find_connection(
    options: Options, *, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Connection:
    """Reads flags, environment and dev.json, in this order. Raises ClientMisconfigured."""
    env = os.environ if environment is None else environment
    here = Path.cwd() if directory is None else directory
    named = options.gateway or env.get("MOORAGE_GATEWAY")
    dev = _read_dev_file(options, env, here)
    if dev is not None and named and not _same_gateway(named, dev.gateway):
        dev = None
    gateway = named or (dev.gateway if dev else None)
    if gateway is None:
        raise ClientMisconfigured(_NO_GATEWAY)
    key, warnings = _find_key(options, env, dev)
    return Connection(
        gateway=gateway,
        private_key=key,
        chains=_find_chains(options, env, dev),
        state_dir=_find_state_directory(options, env),
        bound=options.bound or env.get("MOORAGE_BOUND_SIGNATURES", "").lower() == "true",
        on_behalf_of=options.on_behalf_of or env.get("MOORAGE_ON_BEHALF_OF") or None,
        warnings=warnings,
    )


def _read_dev_file(options: Options, env: Mapping[str, str], here: Path) -> DevFile | None:
    data_dir = options.data_dir or Path(env.get("MOORAGE_DATA_DIR") or ".moorage")
    path = here / data_dir / "dev.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevFile)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ClientMisconfigured(f"{path} {_NOT_YOURS}") from error
    except OSError as error:
        raise ClientMisconfigured(f"{path} can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ClientMisconfigured(f"{path} is not what `moorage dev` writes: {error}") from error


def _same_gateway(one: str, other: str) -> bool:
    return normalise_gateway_url(one) == normalise_gateway_url(other)


def _find_key(
    options: Options, env: Mapping[str, str], dev: DevFile | None
) -> tuple[str | None, tuple[str, ...]]:
    if options.key_file is not None:
        return _read_key_file(options.key_file)
    key = env.get("MOORAGE_PRIVATE_KEY")
    if key:
        return key, _warn_of_real_key(key, dev)
    if dev is None:
        return None, ()
    if not 0 <= options.wallet < len(dev.wallets):
        raise ClientMisconfigured(f"--wallet: dev.json has wallets 0 to {len(dev.wallets) - 1}")
    return dev.wallets[options.wallet].private_key, ()


def _read_key_file(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        text = path.read_text().strip()
        open_to_others = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise ClientMisconfigured(f"the key file {path} can't be read") from error
    warning = f"{path} can be read by others: chmod 600 {path}"
    return text, (warning,) if open_to_others else ()


def _warn_of_real_key(key: str, dev: DevFile | None) -> tuple[str, ...]:
    if dev is None or any(_bare(wallet.private_key) == _bare(key) for wallet in dev.wallets):
        return ()
    warning = (
        "MOORAGE_PRIVATE_KEY is none of dev.json's wallets. What it signs for a local chain is "
        "valid on the real one of the same id: unset it unless it holds nothing there"
    )
    return (warning,)


def _bare(key: str) -> str:
    return key.strip().lower().removeprefix("0x")


def _find_chains(options: Options, env: Mapping[str, str], dev: DevFile | None) -> dict[str, Chain]:
    chains = dict(KNOWN_CHAINS)
    for name, found in (dev.chains if dev else {}).items():
        chains[name] = _dev_chain(name, found)
    urls = _environment_rpc_urls(env, chains) | _flag_rpc_urls(options)
    for name, url in urls.items():
        if name not in chains:
            raise ClientMisconfigured(
                f"--rpc-url: {name!r} is no chain known here; {', '.join(sorted(chains))} are"
            )
        chains[name] = msgspec.structs.replace(chains[name], rpc_urls=(url,))
    return chains


def _environment_rpc_urls(env: Mapping[str, str], chains: Mapping[str, Chain]) -> dict[str, str]:
    variables = {name: rpc_variable(name) for name in chains}
    return {name: env[variable] for name, variable in variables.items() if env.get(variable)}


def rpc_variable(chain: str) -> str:
    """The environment variable that names the RPC URL of `chain`."""
    return "MOORAGE_RPC_URL_" + chain.upper().replace("-", "_")


def _flag_rpc_urls(options: Options) -> dict[str, str]:
    urls = {}
    for text in options.rpc_url or ():
        name, equals, url = text.partition("=")
        if not equals or not url.startswith(("http://", "https://")):
            raise ClientMisconfigured("--rpc-url: write it as CHAIN=https://…")
        urls[name] = url
    return urls


def _dev_chain(name: str, found: _DevChain) -> Chain:
    tokens = tuple(
        msgspec.structs.replace(known, address=address)
        for token, address in found.tokens.items()
        if (known := _known_token(token)) is not None
    )
    return Chain(name=name, chain_id=found.chain_id, rpc_urls=(found.rpc_url,), tokens=tokens)


def _known_token(name: str) -> Token | None:
    tokens = (chain.token(name) for chain in KNOWN_CHAINS.values())
    return next((token for token in tokens if token is not None), None)


def _find_state_directory(options: Options, env: Mapping[str, str]) -> Path:
    if options.state_dir is not None:
        return options.state_dir
    if env.get("MOORAGE_STATE_DIR"):
        return Path(env["MOORAGE_STATE_DIR"])
    base = env.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "moorage"


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
        return find_connection(self._options)

    async def client(self) -> Client:
        """A client that signs as the wallet. Raises ClientMisconfigured."""
        return await self._closing.enter_async_context(self.connection.signed_client())

    async def public_client(self) -> Client:
        """A client for what anybody may ask. Raises ClientMisconfigured."""
        return await self._closing.enter_async_context(self.connection.public_client())


_Flags = ParamSpec("_Flags")


def client_command(
    command: Callable[Concatenate[Session, _Flags], Awaitable[int]],
) -> Callable[..., int]:
    """Makes `command` a function that takes the flags of `Options` in place of a session."""

    @wraps(command)
    def run(*arguments: Any, options: Options = DEFAULTS, **flags: Any) -> int:
        async def carry_out() -> int:
            async with AsyncExitStack() as closing:
                return await command(Session(options, closing), *arguments, **flags)

        return asyncio.run(carry_out())

    own = signature(command)
    shared = Argument("options", Argument.KEYWORD_ONLY, default=DEFAULTS, annotation=Options)
    parameters = [*list(own.parameters.values())[1:], shared]
    vars(run)["__signature__"] = own.replace(parameters=parameters)
    return run
