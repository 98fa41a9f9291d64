"""`POST /agent/deploy` without payment: every check, a plan, a price, a stored quote, a 402."""

import base64
import json
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator
from itertools import count, islice

from gateway import api_port, example_files, gateway, one_deployed
from load import drive, request_bytes
from measure import Row, cpu_seconds_of_children, median, spread
from peer import install, peer
from signing import Signer
from support.gateway.gateway_fixture import DevGateway

ROUNDS = 5
CONNECTIONS = 6  # of a stranger eight uploads may wait at a time, and no more
REQUESTS = 2_000
BODY_BYTES = 8 * 1024
NAMES_OF_A_WALLET = 40  # it may hold 50
WALLETS = REQUESTS // NAMES_OF_A_WALLET
OURS = "unpaid deploy → 402, a new quote stored each time"
AGAIN = "unpaid deploy → 402, quote stored before"
POLL = "a signed status poll"
PLANNING = "planning, in a process beside the gateway's"
EXPRESS = "Express + viem + mppx + better-sqlite3"
MPPX, X402 = "mppx on Express", "@x402/express"
_PAY_TO = "0x" + "5a" * 20
_PARSER = b"moorage.parsers.worker"


def run() -> list[Row]:
    """Requests per CPU second with a name of its own each, and with one name again and again."""
    install()
    names = (f"bench-{number:08d}" for number in count())
    secret = secrets.token_hex(32)
    with (
        tempfile.TemporaryDirectory() as directory,
        gateway() as started,
        peer(
            "gateway-express.js", PAY_TO=_PAY_TO, SECRET=secret, DATABASE=f"{directory}/peer.db"
        ) as express,
        peer("mppx.js", PAY_TO=_PAY_TO, SECRET=secret) as mppx,
        peer("x402.js", PAY_TO=_PAY_TO) as x402,
    ):
        ours = (api_port(started), started.pid)
        made_polls = polls(started)
        servers = {OURS: ours, AGAIN: ours, EXPRESS: express, MPPX: mppx, X402: x402}
        _round(servers, names, wallets=10)  # to warm up
        rounds = [
            {
                **_round(servers, names, wallets=WALLETS),
                POLL: polled(ours, made_polls),
                PLANNING: planned(ours, names),
            }
            for _ in range(ROUNDS)
        ]
    return _rows({name: [found[name] for found in rounds] for name in (*servers, POLL, PLANNING)})


def polls(started: DevGateway) -> Callable[[], list[bytes]]:
    """Makes signed polls of a deployment of the same gateway."""
    wallet, answer = one_deployed(started)
    signer = Signer.of(wallet.key)
    path = f"/agent/deploy/{answer.body['projectId']}/{answer.body['deploymentId']}/status"
    return lambda: [request_bytes("GET", path, signer.headers()) for _ in range(REQUESTS)]


def polled(server: tuple[int, int], make_polls: Callable[[], list[bytes]]) -> float:
    """Polls per CPU second."""
    return drive(*server, make_polls(), expect=200, connections=CONNECTIONS).per_cpu_second


def planned(server: tuple[int, int], names: Iterator[str]) -> float:
    """Microseconds of processor time that one plan takes in the processes that make them."""
    port, pid = server
    signed = requests(names, wallets=WALLETS, names_each=NAMES_OF_A_WALLET, repeats=1)
    before = cpu_seconds_of_children(pid, _PARSER)
    drive(port, pid, signed, expect=402, connections=CONNECTIONS)
    return (cpu_seconds_of_children(pid, _PARSER) - before) / len(signed) * 1e6


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
        signed = requests(names, wallets=wallets, **each)
        load = drive(port, pid, signed, expect=402, connections=CONNECTIONS)
        found[server] = load.per_cpu_second
    return found


def _rows(found: dict[str, list[float]]) -> list[Row]:
    ours, again, poll = median(found[OURS]), median(found[AGAIN]), median(found[POLL])
    return [
        Row(OURS, f"{ours:,.0f} r/CPU-s", note=f"8 KB body; {spread(found[OURS])}"),
        Row(AGAIN, f"{again:,.0f} r/CPU-s", note=f"8 KB body; {spread(found[AGAIN])}"),
        Row(
            f"unpaid deploy's processor time ÷ {POLL}'s",
            f"{poll / ours:.2f}×",
            "≤ 3×",
            poll <= 3 * ours,
            f"poll {poll:,.0f} r/CPU-s; {spread(found[POLL])}",
        ),
        Row(
            PLANNING,
            f"{median(found[PLANNING]):,.0f} µs",
            note=f"a plan; in none of the figures above; {spread(found[PLANNING])}",
        ),
        _row(
            found, EXPRESS, 5, "the same work: signature, upload, quote stored, one challenge each"
        ),
        _row(found, MPPX, None, "it checks and stores nothing: one MPP challenge and one of x402"),
        _row(found, X402, None, "it checks and stores nothing: one challenge of x402"),
    ]


def _row(found: dict[str, list[float]], peer: str, target: float | None, says: str) -> Row:
    ratio = median(found[OURS]) / median(found[peer])
    return Row(
        f"unpaid deploy, a new quote ÷ {peer}",
        f"{ratio:.2f}×",
        "" if target is None else f"≥ {target:g}×",
        None if target is None else ratio >= target,
        f"peer {median(found[peer]):,.0f} r/CPU-s; {says}; {spread(found[peer])}",
    )


def requests(names: Iterator[str], *, wallets: int, names_each: int, repeats: int) -> list[bytes]:
    """Makes signed deploys without a payment, in any order."""
    signers = [
        (signer, name)
        for signer in (Signer.new() for _ in range(wallets))
        for name in islice(names, names_each)
    ]
    bodies = {name: _body(name) for _, name in signers}
    made = [
        request_bytes("POST", "/agent/deploy", signer.headers(), bodies[name])
        for signer, name in signers
        for _ in range(repeats)
    ]
    random.Random(0).shuffle(made)
    return made


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
