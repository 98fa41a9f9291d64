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
from signing import Signer

ROUNDS = 5
REQUESTS = 4_000
BODY_BYTES = 8 * 1024
NAMES_OF_A_WALLET = 40  # it may hold 50


def run() -> list[Row]:
    """Requests per CPU second with a name of its own each, and with one name again and again."""
    names = (f"bench-{number:08d}" for number in count())
    fresh, repeated = [], []
    with gateway() as started:
        port, pid = api_port(started), started.pid
        drive(port, pid, _requests(names, wallets=10, names_each=10, repeats=1), expect=402)
        for _ in range(ROUNDS):
            wallets = REQUESTS // NAMES_OF_A_WALLET
            once = _requests(names, wallets=wallets, names_each=NAMES_OF_A_WALLET, repeats=1)
            fresh.append(drive(port, pid, once, expect=402).per_cpu_second)
            again = _requests(names, wallets=20, names_each=1, repeats=REQUESTS // 20)
            repeated.append(drive(port, pid, again, expect=402).per_cpu_second)
    return [
        Row(
            "unpaid deploy → 402, a new quote stored each time",
            f"{median(fresh):,.0f} r/CPU-s",
            "≥ 3,000",
            median(fresh) >= 3_000,
            f"8 KB body; {spread(fresh)}",
        ),
        Row(
            "unpaid deploy → 402, quote stored before",
            f"{median(repeated):,.0f} r/CPU-s",
            note=f"8 KB body; {spread(repeated)}",
        ),
    ]


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
