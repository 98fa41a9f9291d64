"""`GET …/status` with a signature: the request that clients send most."""

import shutil
import tempfile
from pathlib import Path

from gateway import api_port, gateway, one_deployed
from load import drive, request_bytes
from measure import Row, median, spread
from peer import install, peer
from signing import Signer
from support.clients.wallet import Answer
from support.gateway.gateway_fixture import DevGateway

ROUNDS = 5
REQUESTS = 5_000
REQUESTS_OF_VIEM = 800
VIEM, NATIVE, ALL_NATIVE = "Express + viem", "node:http + native secp256k1", "… and Keccak"


def run() -> list[Row]:
    """Requests per CPU second of the gateway and of both peers, over the same rows."""
    install()
    with gateway() as started, tempfile.TemporaryDirectory() as directory:
        wallet, answer = one_deployed(started)
        database = str(_copy(started, Path(directory)))
        signer = Signer.of(wallet.key)
        with (
            peer("express-viem.js", DATABASE=database) as viem,
            peer("http-native.js", DATABASE=database) as native,
            peer("http-native.js", DATABASE=database, KECCAK="native") as all_native,
        ):
            ours = (api_port(started), started.pid)
            servers = {"ours": ours, VIEM: viem, NATIVE: native, ALL_NATIVE: all_native}
            _rounds(servers, signer, answer, 1)  # to warm up
            found = _rounds(servers, signer, answer, ROUNDS)
    return _rows(found)


def _copy(started: DevGateway, directory: Path) -> Path:
    """The gateway's own database as it is now, for the peers to read."""
    for name in ("moorage.db", "moorage.db-wal", "moorage.db-shm"):
        if (started.data_dir / name).exists():
            shutil.copy(started.data_dir / name, directory / name)
    return directory / "moorage.db"


def _rounds(
    servers: dict[str, tuple[int, int]], signer: Signer, answer: Answer, rounds: int
) -> dict[str, list[float]]:
    path = f"/agent/deploy/{answer.body['projectId']}/{answer.body['deploymentId']}/status"
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, (port, pid) in servers.items():
            count = REQUESTS_OF_VIEM if name == VIEM else REQUESTS
            requests = [request_bytes("GET", path, signer.headers()) for _ in range(count)]
            found[name].append(drive(port, pid, requests, expect=200).per_cpu_second)
    return found


def _rows(found: dict[str, list[float]]) -> list[Row]:
    return [
        Row("status, gateway", f"{median(found['ours']):,.0f} r/CPU-s", note=spread(found["ours"])),
        _row(found, VIEM, 10),
        _row(found, NATIVE, 0.8),
        _row(found, ALL_NATIVE, None),
    ]


def _row(found: dict[str, list[float]], peer: str, target: float | None) -> Row:
    ratio = median(found["ours"]) / median(found[peer])
    return Row(
        f"status ÷ {peer}",
        f"{ratio:.2f}×",
        "" if target is None else f"≥ {target:g}×",
        None if target is None else ratio >= target,
        f"peer {median(found[peer]):,.0f} r/CPU-s; {spread(found[peer])}",
    )
