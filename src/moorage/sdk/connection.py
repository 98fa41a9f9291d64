"""Where a client finds its gateway, key and chains: by name, then environment, then dev.json.

`dev.json` is what `moorage dev` writes while it runs. Its keys and nodes serve its own gateway
only, so it is ignored when another gateway is named.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientMisconfigured
from moorage.sdk.signer import Signer
from moorage.sdk.transport import OnWait, normalise_gateway_url

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

    def signed_client(self, on_wait: OnWait | None = None) -> Client:
        """A client that signs as the wallet. Raises ClientMisconfigured without a key."""
        return self._client(Signer(self.required_key()), on_wait)

    def public_client(self, on_wait: OnWait | None = None) -> Client:
        """A client for what anybody may ask."""
        return self._client(None, on_wait)

    def _client(self, signer: Signer | None, on_wait: OnWait | None) -> Client:
        return Client(
            self.gateway,
            signer,
            bound=self.bound,
            on_behalf_of=self.on_behalf_of,
            on_wait=on_wait,
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


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller names himself; None is looked for in the environment, then in dev.json."""

    gateway: str | None = None
    key_file: Path | None = None
    wallet: int = 0  # which of dev.json's
    rpc_url: Sequence[str] | None = None  # each as CHAIN=URL
    data_dir: Path | None = None
    state_dir: Path | None = None
    bound: bool = False
    on_behalf_of: str | None = None


NOTHING_NAMED = Named()


def find_connection(
    options: Named = NOTHING_NAMED,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Connection:
    """Reads what is named, the environment and dev.json, in this order.

    Raises ClientMisconfigured.
    """
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


def _read_dev_file(options: Named, env: Mapping[str, str], here: Path) -> DevFile | None:
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
    options: Named, env: Mapping[str, str], dev: DevFile | None
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


def _find_chains(options: Named, env: Mapping[str, str], dev: DevFile | None) -> dict[str, Chain]:
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


def _flag_rpc_urls(options: Named) -> dict[str, str]:
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


def _find_state_directory(options: Named, env: Mapping[str, str]) -> Path:
    if options.state_dir is not None:
        return options.state_dir
    if env.get("MOORAGE_STATE_DIR"):
        return Path(env["MOORAGE_STATE_DIR"])
    base = env.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "moorage"
