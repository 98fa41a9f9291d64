"""`POST /agent/deploy` without payment: every check, a plan, a price, a stored quote, a 402."""

import base64
import json
import random
import secrets
from collections.abc import Iterator
from itertools import count, islice

from gateway import api_port, example_files, gateway
from load import drive, request_bytes
from measure import Row, median, spread
from peer import install, peer
from signing import Signer

ROUNDS = 5
REQUESTS = 2_000
BODY_BYTES = 8 * 1024
NAMES_OF_A_WALLET = 40  # it may hold 50
WALLETS = REQUESTS // NAMES_OF_A_WALLET
OURS = "unpaid deploy → 402, a new quote stored each time"
AGAIN = "unpaid deploy → 402, quote stored before"
MPPX, X402 = "mppx on Express", "@x402/express"
_PAY_TO = "0x" + "5a" * 20


def run() -> list[Row]:
    """Requests per CPU second with a name of its own each, and with one name again and again."""
    install()
    names = (f"bench-{number:08d}" for number in count())
    with (
        gateway() as started,
        peer("mppx.js", PAY_TO=_PAY_TO, SECRET=secrets.token_hex(32)) as mppx,
        peer("x402.js", PAY_TO=_PAY_TO) as x402,
    ):
        ours = (api_port(started), started.pid)
        servers = {OURS: ours, AGAIN: ours, MPPX: mppx, X402: x402}
        _round(servers, names, wallets=10)  # to warm up
        rounds = [_round(servers, names, wallets=WALLETS) for _ in range(ROUNDS)]
    return _rows({name: [found[name] for found in rounds] for name in servers})


def _round(
    servers: dict[str, tuple[int, int]], names: Iterator[str], *, wallets: int
) -> dict[str, float]:
    """Requests per CPU second of each server; all get as many, of the same size and headers."""
    found = {}
    for server, (port, pid) in servers.items():
        if server == AGAIN:
            each = {"names_each": 1, "repeats": NAMES_OF_A_WALLET}
        else:
            each = {"names_each": NAMES_OF_A_WALLET, "repeats": 1}
        requests = _requests(names, wallets=wallets, **each)
        found[server] = drive(port, pid, requests, expect=402).per_cpu_second
    return found


def _rows(found: dict[str, list[float]]) -> list[Row]:
    ours, again = median(found[OURS]), median(found[AGAIN])
    return [
        Row(
            OURS,
            f"{ours:,.0f} r/CPU-s",
            "≥ 3,000",
            ours >= 3_000,
            f"8 KB body; {spread(found[OURS])}",
        ),
        Row(AGAIN, f"{again:,.0f} r/CPU-s", note=f"8 KB body; {spread(found[AGAIN])}"),
        _row(found, MPPX, 5, "one MPP challenge and one of x402"),
        _row(found, X402, 1, "one challenge of x402"),
    ]


def _row(found: dict[str, list[float]], peer: str, target: float, says: str) -> Row:
    ratio = median(found[OURS]) / median(found[peer])
    return Row(
        f"unpaid deploy, a new quote ÷ {peer}",
        f"{ratio:.2f}×",
        f"≥ {target:g}×",
        ratio >= target,
        f"peer {median(found[peer]):,.0f} r/CPU-s; same requests, of which it checks nothing: "
        f"{says}, made anew; {spread(found[peer])}",
    )


def _requests(names: Iterator[str], *, wallets: int, names_each: int, repeats: int) -> list[bytes]:
    signers = [
        (signer, name)
        for signer in (Signer.new() for _ in range(wallets))
        for name in islice(names, names_each)
    ]
    bodies = {name: _body(name) for _, name in signers}
    requests = [
        request_bytes("POST", "/agent/deploy", signer.headers(), bodies[name])
        for signer, name in signers
        for _ in range(repeats)
    ]
    random.Random(0).shuffle(requests)
    return requests


def _body(name: str) -> bytes:
    """hello-node and a file that brings the body to 8 KB."""
    files = {path: text.encode() for path, text in example_files("hello-node").items()}
    bare = _encoded(name, files | {"notes.txt": b""})
    files["notes.txt"] = secrets.token_bytes((BODY_BYTES - len(bare)) * 3 // 4)
    return _encoded(name, files)


def _encoded(name: str, files: dict[str, bytes]) -> bytes:
    upload = [
        {"path": path, "content": base64.b64encode(content).decode()}
        for path, content in files.items()
    ]
    body = {"uniqueName": name, "displayName": name, "upload": {"type": "files", "files": upload}}
    return json.dumps(body, separators=(",", ":")).encode()
