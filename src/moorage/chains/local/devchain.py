"""A local chain in place of a real one: with its chain id, token addresses and funded wallets."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

import coincurve
import msgspec

from moorage.address import checksum_address, key_address
from moorage.chains.chain import Chain
from moorage.chains.receipt import parse_quantity, transfer_topics
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable, LocalChainFailed
from moorage.loop import until_tick
from moorage.process import ProcessRecord, is_running, spawn_detached, terminate
from moorage.signing import keccak256
from moorage.whole_file import create_file, replace_file

GAS_WEI: Final = 10_000 * 10**18
TOKENS_EACH: Final = 1_000

_BALANCES_SLOT = 9  # of contracts/DevToken.sol
_CONTRACTS = {"usdc": "DevUSDC", "usdt": "DevUSDT"}

RpcCall = tuple[str, Sequence[Any]]


class Contract(msgspec.Struct, frozen=True):
    """A compiled contract, which can be put at any address."""

    runtime: str  # bytecode, hex with 0x
    selectors: dict[str, str]  # by signature: "transfer(address,uint256)" → "a9059cbb"


class _Artifact(msgspec.Struct, frozen=True):
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]  # SHA-256 of each source, hex
    contracts: dict[str, Contract]


def artifact() -> _Artifact:
    """Returns the content of `devtokens.json`."""
    content = resources.files("moorage.chains.local").joinpath("devtokens.json").read_bytes()
    return msgspec.json.decode(content, type=_Artifact)


def token_contracts(chain: Chain) -> dict[str, str]:
    """Returns the runtime bytecode by token address. Raises KeyError for a token without one."""
    contracts = artifact().contracts
    return {token.address: contracts[_CONTRACTS[token.name]].runtime for token in chain.tokens}


def funding_calls(
    chain: Chain, *, gas_for: Iterable[str], tokens_for: Iterable[str]
) -> list[RpcCall]:
    """Returns calls that set balances: TOKENS_EACH of each token, then GAS_WEI.

    Gas comes last, so that a wallet with gas was funded completely. Needs `anvil_*` methods.
    """
    tokens: list[RpcCall] = [
        ("anvil_setStorageAt", [token.address, _balance_slot(wallet), f"0x{amount:064x}"])
        for wallet in tokens_for
        for token in chain.tokens
        for amount in (TOKENS_EACH * 10**token.decimals,)
    ]
    gas: list[RpcCall] = [("anvil_setBalance", [wallet, hex(GAS_WEI)]) for wallet in gas_for]
    return tokens + gas


def _balance_slot(account: str) -> str:
    """Returns the slot of `account`'s value in the mapping at slot 9 (Solidity's layout)."""
    key = bytes.fromhex(account.removeprefix("0x")).rjust(32, b"\0")
    return "0x" + keccak256(key + _BALANCES_SLOT.to_bytes(32, "big")).hex()


ANVIL_VERSION: Final = "1.7.1"
INSTALL_COMMAND: Final = "npm ci --ignore-scripts"

_HOST = "127.0.0.1"
_SAVE_EVERY_SECONDS = 1
_STATES_KEPT = 64
_PLATFORM_PACKAGES = "@foundry-rs/anvil-*/bin/anvil"
_PROC_LISTENING = "0A"
_POLL_SECONDS = 0.005


class NodeRecord(ProcessRecord, frozen=True):
    """Identifies a started node."""

    port: int


def find_anvil(search: Sequence[Path]) -> Path:
    """Returns the `anvil` binary on PATH, else in one of the `node_modules` directories `search`.

    It is the binary itself, as npm's wrapper takes 0.16 s to start. Raises LocalChainFailed with
    the command that installs it.
    """
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    for directory in search:
        found = next((path for path in directory.glob(_PLATFORM_PACKAGES) if path.is_file()), None)
        if found is not None:
            return found
    raise LocalChainFailed(
        "anvil, the local chain's node, was not found on PATH or in "
        f"{', '.join(map(str, search)) or 'any node_modules'}; install it with "
        f"`{INSTALL_COMMAND}` in the repository, "
        f"or `npm install --ignore-scripts @foundry-rs/anvil@{ANVIL_VERSION}`"
    )


def anvil_command(*, anvil: Path, chain_id: int, port: int, state: Path) -> tuple[str, ...]:
    """Returns the argv of a node that mines each transaction at once; its state is in `state`.

    With one slot an epoch, `safe` is one block behind the newest, and `finalized` two. It has no
    accounts, as anvil's default keys are public. It keeps the state of a few blocks, enough for
    calls and reorganisations; more would fill memory, then the home directory.
    """
    return (
        str(anvil),
        "--quiet",
        *("--host", _HOST),
        *("--port", str(port)),
        *("--chain-id", str(chain_id)),
        *("--accounts", "0"),
        *("--slots-in-an-epoch", "1"),
        *("--prune-history", str(_STATES_KEPT)),
        *("--state", str(state)),
        *("--state-interval", str(_SAVE_EVERY_SECONDS)),
    )


def spawn(command: tuple[str, ...], *, port: int, log: Path) -> NodeRecord:
    """Starts `command` in its own session; appends its output to `log`. Raises OSError."""
    started = spawn_detached(
        command,
        directory=log.parent,
        environment={name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        output=log,
        keeps_output=True,
    )
    return NodeRecord(started.pid, started.start_ticks, started.command, port)


async def wait_until_listening(record: NodeRecord, *, timeout_seconds: float) -> bool:
    """Waits until the node listens; returns False if it exited or took too long.

    An answer at the port would not prove that: another process may use the port by now.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            while is_running(record):
                if _holds_port(record.pid, record.port):
                    return True
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        pass
    return False


def _holds_port(pid: int, port: int) -> bool:
    """Whether the process has a socket that listens on 127.0.0.1:`port`."""
    local_address = f"0100007F:{port:04X}"
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        links = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    listening = {
        f"socket:[{columns[9]}]"
        for columns in map(str.split, rows)
        if columns[1] == local_address and columns[3] == _PROC_LISTENING
    }
    return not listening.isdisjoint(links)


PAYING_WALLETS = 8


class DevWallet(msgspec.Struct, frozen=True):
    """A wallet that anybody on this machine can pay with."""

    address: str  # checksummed
    private_key: str  # 0x and 64 hex digits


class DevWallets(msgspec.Struct, frozen=True):
    """The wallets that a local chain funds."""

    pay_to: DevWallet  # receives payments
    relayer: DevWallet  # settles authorizations; needs gas, no tokens
    wallets: tuple[DevWallet, ...]  # make payments; each has gas and tokens


def dev_wallets(path: Path) -> DevWallets:
    """Returns the wallets stored in `path`; creates random ones if the file is missing.

    The file is private to its owner (mode 0600) and is created atomically, also if two processes
    do so at once. Raises LocalChainFailed if it contains no wallets.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create_file(path, msgspec.json.format(msgspec.json.encode(_new_wallets()), indent=1))
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevWallets)
    except msgspec.DecodeError as problem:
        raise LocalChainFailed(f"{path} holds no wallets; `moorage dev --reset`") from problem


def address_of(private_key: bytes) -> str:
    """Returns the checksummed address of a 32-byte private key. Raises ValueError otherwise."""
    key = coincurve.PublicKey.from_valid_secret(private_key)
    return checksum_address(key_address(key.format(compressed=False)))


def _new_wallets() -> DevWallets:
    return DevWallets(
        pay_to=_new_wallet(),
        relayer=_new_wallet(),
        wallets=tuple(_new_wallet() for _ in range(PAYING_WALLETS)),
    )


def _new_wallet() -> DevWallet:
    key = coincurve.PrivateKey().secret  # of os.urandom, within the curve's order
    return DevWallet(address=address_of(key), private_key="0x" + key.hex())


START_TIMEOUT_SECONDS: Final = 20.0
STOP_GRACE_SECONDS: Final = 10.0
_PORT_TRIES = 8


class DevChain:
    """One local chain; `directory` contains its state, its port, and the record of its node.

    The node runs in its own session and outlives a killed gateway; the next `start` takes it over,
    so that no payment is lost. With `port` 0 it uses its last port if that is free, else any free
    one. It listens on 127.0.0.1 only. One process at a time can use a directory.
    """

    def __init__(
        self, chain: Chain, *, directory: Path, anvil: Path, wallets: DevWallets, port: int = 0
    ) -> None:
        self._chain = chain
        self._directory = directory
        self._anvil = anvil
        self._wallets = wallets
        self._wanted_port = port
        self._node: NodeRecord | None = None
        self._lock: IO[bytes] | None = None

    @property
    def rpc_url(self) -> str:
        """The running chain's URL. Raises LocalChainFailed before `start`."""
        return f"http://127.0.0.1:{self._running_node().port}"

    @property
    def pid(self) -> int:
        """The running node's process id. Raises LocalChainFailed before `start`."""
        return self._running_node().pid

    @property
    def chain(self) -> Chain:
        """The chain with its RPC URL. Raises LocalChainFailed before `start`."""
        return msgspec.structs.replace(self._chain, rpc_urls=(self.rpc_url,))

    async def start(self) -> Chain:
        """Starts or takes over the node, installs the tokens and funds the wallets.

        Each wallet is funded only once. Raises LocalChainFailed.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._node = await self._take_over()
            if self._node is None:
                await self._start_node()
            await self._provision()
        except BaseException:
            await self.stop()
            raise
        return self.chain

    async def keep_mining(self, *, bury_above: int | None = None) -> None:
        """As `keep_mining`, at the started node, for payments to the gateway's own wallet."""
        client = self._client(self._running_node().port)
        bury = None if bury_above is None else (self._wallets.pay_to.address, bury_above)
        try:
            await keep_mining(client, bury=bury)
        finally:
            await client.close()

    async def stop(self) -> None:
        """Stops the node, which saves its state first; does nothing if it was not started."""
        await self._end_node()
        self._release_lock()

    def detach(self) -> None:
        """Leaves the node running for the next start of this chain."""
        self._node = None
        self._release_lock()

    @property
    def _state_path(self) -> Path:
        return self._directory / "state.json"

    @property
    def _good_state_path(self) -> Path:
        return self._directory / "state.good.json"

    @property
    def _record_path(self) -> Path:
        return self._directory / "node.json"

    @property
    def _log_path(self) -> Path:
        return self._directory / "node.log"

    @property
    def _port_path(self) -> Path:
        return self._directory / "port"

    def _running_node(self) -> NodeRecord:
        if self._node is None:
            raise LocalChainFailed(f"the local chain {self._chain.name} was not started")
        return self._node

    async def _take_over(self) -> NodeRecord | None:
        """Returns the node that an earlier DevChain left running, if it still serves this chain.

        Ends one that doesn't fit or answer, so that two nodes never write the same state.
        """
        try:
            record = msgspec.json.decode(self._record_path.read_bytes(), type=NodeRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if not is_running(record):
            return None
        fits = self._wanted_port in (0, record.port) and record.command == self._command(
            record.port
        )
        if fits and await self._answers(record):
            return record
        await terminate(record, grace_seconds=STOP_GRACE_SECONDS)
        return None

    async def _start_node(self) -> None:
        self._mend_state()
        for port in self._ports():
            self._node = spawn(self._command(port), port=port, log=self._log_path)
            replace_file(self._record_path, msgspec.json.encode(self._node))
            if await wait_until_listening(
                self._node, timeout_seconds=START_TIMEOUT_SECONDS
            ) and await self._answers(self._node):
                replace_file(self._port_path, str(port).encode())
                return
            await self._end_node()
        raise LocalChainFailed(
            f"the local chain {self._chain.name} does not start; see {self._log_path}"
        )

    async def _end_node(self) -> None:
        if self._node is not None:
            await terminate(self._node, grace_seconds=STOP_GRACE_SECONDS)
            self._record_path.unlink(missing_ok=True)
            self._node = None

    def _command(self, port: int) -> tuple[str, ...]:
        return anvil_command(
            anvil=self._anvil.resolve(),
            chain_id=self._chain.chain_id,
            port=port,
            state=self._state_path.resolve(),
        )

    def _ports(self) -> list[int]:
        """Returns ports to try in order, as a free one may be taken before the node binds it."""
        if self._wanted_port:
            return [self._wanted_port]
        with contextlib.suppress(FileNotFoundError, ValueError):
            used_before = int(self._port_path.read_text())
            if _is_free(used_before):
                return [used_before, *_free_ports(_PORT_TRIES)]
        return _free_ports(_PORT_TRIES)

    def _mend_state(self) -> None:
        """Replaces a state that a killed node left half written with the last good copy.

        anvil truncates the file before it writes, once a second.
        """
        for path in (self._state_path, self._good_state_path):
            try:
                msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
            except FileNotFoundError:
                continue
            except msgspec.DecodeError:
                path.replace(path.with_suffix(".broken"))
        if self._state_path.exists():
            shutil.copyfile(self._state_path, self._good_state_path)
        elif self._good_state_path.exists():
            shutil.copyfile(self._good_state_path, self._state_path)

    async def _answers(self, node: NodeRecord) -> bool:
        client = self._client(node.port)
        try:
            await client.batch([])  # it checks the chain id
        except ChainUnavailable:
            return False
        else:
            return True
        finally:
            await client.close()

    def _client(self, port: int) -> RpcClient:
        url = f"http://127.0.0.1:{port}"
        return RpcClient(msgspec.structs.replace(self._chain, rpc_urls=(url,)))

    async def _provision(self) -> None:
        client = self._client(self._running_node().port)
        try:
            await _provision(client, self._chain, self._wallets)
        except (ChainUnavailable, ValueError) as problem:
            raise LocalChainFailed(f"the local chain {self._chain.name}: {problem}") from problem
        finally:
            await client.close()

    def _take_lock(self) -> None:
        lock = (self._directory / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            lock.close()
            raise LocalChainFailed(f"{self._directory} is in use by another process") from taken
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


async def keep_mining(
    client: RpcClient, *, every_seconds: float = 1.0, bury: tuple[str, int] | None = None
) -> None:
    """Mines transactions that an automining node left in its pool, until cancelled.

    anvil sometimes leaves a transaction that arrives while it mines another (foundry issue 10122).
    One that waits at two looks in a row was left. A node with automining off is not touched.

    `bury` is a wallet and an amount in atomic units. A block that brings the wallet more gets
    another on top: it counts once it is safe, and nobody else mines here.
    """
    waited: set[str] = set()
    calls: list[tuple[str, list[Any]]] = [("anvil_getAutomine", []), ("txpool_content", [])]
    if bury is not None:
        tokens = [token.address for token in client.chain.tokens]
        newest = {"fromBlock": "latest", "address": tokens, "topics": transfer_topics([bury[0]])}
        calls.append(("eth_getLogs", [newest]))
    while True:
        await asyncio.sleep(until_tick(every_seconds))
        with contextlib.suppress(ChainUnavailable):
            mines, pool, *found = await client.batch(calls)
            waits = _hashes(pool["pending"]) if mines is True else set()
            brings = sum(parse_quantity(log["data"]) for logs in found for log in logs)
            is_to_bury = mines is True and bury is not None and brings > bury[1]
            if waits & waited or is_to_bury:
                await client.call("evm_mine", [])
            waited = waits


def _hashes(pool: dict[str, dict[str, Any]]) -> set[str]:
    """Returns the hashes in one part of a node's pool, which is a map by sender, then by nonce."""
    return {sent["hash"] for by_nonce in pool.values() for sent in by_nonce.values()}


async def _provision(client: RpcClient, chain: Chain, wallets: DevWallets) -> None:
    """Installs the tokens and funds wallets that were never funded, in two round trips.

    Then it mines a block. Calls run at the newest block's time, which is 1970 on a new chain and
    long ago on one that was stopped: authorizations would seem not yet valid.
    """
    contracts = token_contracts(chain)
    owners = [wallet.address for wallet in (*wallets.wallets, wallets.relayer, wallets.pay_to)]
    answers = await client.batch(
        [("eth_getCode", [address, "latest"]) for address in contracts]
        + [("eth_getBalance", [owner, "latest"]) for owner in owners]
    )
    codes, gas = answers[: len(contracts)], answers[len(contracts) :]
    unfunded = [owner for owner, wei in zip(owners, gas, strict=True) if parse_quantity(wei) == 0]
    paying = {wallet.address for wallet in wallets.wallets}
    calls = [
        ("anvil_setCode", [address, runtime])
        for (address, runtime), code in zip(contracts.items(), codes, strict=True)
        if code != runtime
    ] + funding_calls(
        chain, gas_for=unfunded, tokens_for=[owner for owner in unfunded if owner in paying]
    )
    for answer in await client.batch([*calls, ("anvil_mine", ["0x1"])]):
        if isinstance(answer, Exception):
            raise answer


def _free_ports(count: int) -> list[int]:
    """Returns `count` different ports that are free on 127.0.0.1 now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True
