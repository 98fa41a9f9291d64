"""Paid by authorization (MPP): the challenge's check, the signature's, the claim, the ledger.

Settlement is a stub on both sides. Ours is a top-up, as a deploy would have an app built.
"""

import json
import re
import secrets
import sys
import tempfile
from pathlib import Path

from gateway import api_port, gateway
from load import Caller, drive, request_bytes, tcp
from measure import Row, median, spread
from peer import install, peer
from signing import Signer
from support.chains.paying import sign_authorization
from support.clients.protocols import Challenge, credential, written

ROUNDS = 5
REQUESTS = 1_000
OURS = "paid by authorization → 200"
EXPRESS = "Express + viem + mppx + better-sqlite3"
MPPX = "mppx on Express"
_PROGRAM = (sys.executable, str(Path(__file__).parent / "settled_gateway.py"))
_PAY_TO = "0x" + "5a" * 20
_BODY = json.dumps({"amount_usd": 0.5}).encode()
_CHALLENGE = re.compile(rb"(?im)^www-authenticate: Payment (.*)\r$")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_VALID_UNTIL = 2**40


def run() -> list[Row]:
    """Requests per CPU second of each server, each request of a wallet of its own."""
    install()
    secret = secrets.token_hex(32)
    found: dict[str, list[float]] = {OURS: [], EXPRESS: [], MPPX: []}
    with (
        tempfile.TemporaryDirectory() as directory,
        gateway(program=_PROGRAM) as started,
        peer(
            "gateway-express.js", PAY_TO=_PAY_TO, SECRET=secret, DATABASE=f"{directory}/peer.db"
        ) as express,
        peer("mppx.js", PAY_TO=_PAY_TO, SECRET=secret) as mppx,
    ):
        for round_number in range(ROUNDS + 1):
            measured = {
                OURS: _paid(api_port(started), started.pid, "/agent/credits", signed=True),
                EXPRESS: _paid(*express, "/agent/credits", signed=True),
                MPPX: _paid(*mppx, "/agent/deploy", signed=False),
            }
            if round_number:  # the first is to warm up
                for name, figure in measured.items():
                    found[name].append(figure)
    return _rows(found)


def _rows(found: dict[str, list[float]]) -> list[Row]:
    return [
        Row(
            OURS,
            f"{median(found[OURS]):,.0f} r/CPU-s",
            note="MPP, by a top-up: wallet's signature, challenge, authorization's signature, "
            "claim, ledger, receipt, two durable commits; settlement and the look at the chain "
            f"are a stub; {spread(found[OURS])}",
        ),
        _row(found, EXPRESS, 5, "the same work, settlement a stub as well"),
        _row(
            found,
            MPPX,
            None,
            "challenge, authorization's signature, receipt; settlement is a stub, and it stores "
            "nothing",
        ),
    ]


def _row(found: dict[str, list[float]], peer: str, target: float | None, says: str) -> Row:
    ratio = median(found[OURS]) / median(found[peer])
    return Row(
        f"paid by authorization ÷ {peer}",
        f"{ratio:.2f}×",
        "" if target is None else f"≥ {target:g}×",
        None if target is None else ratio >= target,
        f"peer {median(found[peer]):,.0f} r/CPU-s: {says}; {spread(found[peer])}",
    )


def _paid(port: int, pid: int, path: str, *, signed: bool) -> float:
    """Requests per CPU second of one round; what they answer was asked for before."""
    caller = tcp(port)
    requests = [paying_request(caller, path, signed=signed) for _ in range(REQUESTS)]
    caller.close()
    return drive(port, pid, requests, expect=200).per_cpu_second


def paying_request(caller: Caller, path: str, *, signed: bool, **further: str) -> bytes:
    """One that pays what a request without payment was told to; both have `further` headers."""
    signer = Signer.new()

    def headers() -> dict[str, str]:
        return (signer.headers() if signed else {}) | further

    status, head, _ = caller.ask(request_bytes("POST", path, headers(), _BODY))
    assert status == 402, head
    paying = _answer(signer, head)
    return request_bytes("POST", path, headers() | paying, _BODY)


def _answer(signer: Signer, head: bytes) -> dict[str, str]:
    """The credential for the first challenge of a 402."""
    first = _CHALLENGE.findall(head)[0].decode()
    challenge = Challenge(dict(_PARAMETER.findall(first)))
    asked = challenge.request
    authorization = sign_authorization(
        signer.private_key,
        chain_id=challenge.chain_id,
        token_address=asked["currency"],
        to=asked["recipient"],
        value=int(asked["amount"]),
        valid_before=_VALID_UNTIL,
        nonce=challenge.nonce,
    )
    signature = "0x" + authorization.signature.hex()
    return credential(
        challenge, {"type": "authorization", "signature": signature, **written(authorization)}
    )
