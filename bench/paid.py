"""Paid by authorization (MPP): the challenge's check, the signature's, the claim, the ledger.

Settlement is a stub on both sides. Ours is a top-up, as a deploy would have an app built.
"""

import json
import re
import secrets
import sys
from pathlib import Path

from gateway import api_port, gateway
from load import Caller, drive, request_bytes, tcp
from measure import Row, median, spread
from paying import sign_authorization
from peer import install, peer
from protocols import Challenge, credential, written
from signing import Signer

ROUNDS = 5
REQUESTS = 1_000
TARGET = 12
_PROGRAM = (sys.executable, str(Path(__file__).parent / "settled_gateway.py"))
_PAY_TO = "0x" + "5a" * 20
_BODY = json.dumps({"amount_usd": 0.5}).encode()
_CHALLENGE = re.compile(rb"(?im)^www-authenticate: Payment (.*)\r$")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_VALID_UNTIL = 2**40


def run() -> list[Row]:
    """Requests per CPU second of both, each request of a wallet of its own."""
    install()
    ours, theirs = [], []
    with (
        gateway(program=_PROGRAM) as started,
        peer("mppx.js", PAY_TO=_PAY_TO, SECRET=secrets.token_hex(32)) as (port, pid),
    ):
        for round_number in range(ROUNDS + 1):
            found = _paid(api_port(started), started.pid, "/agent/credits", signed=True)
            peers = _paid(port, pid, "/agent/deploy", signed=False)
            if round_number:  # the first is to warm up
                ours.append(found)
                theirs.append(peers)
    return _rows(ours, theirs)


def _rows(ours: list[float], theirs: list[float]) -> list[Row]:
    ratio = median(ours) / median(theirs)
    return [
        Row(
            "paid by authorization → 200",
            f"{median(ours):,.0f} r/CPU-s",
            note="MPP, by a top-up: wallet's signature, challenge, authorization's signature, "
            "claim, ledger, receipt, two durable commits; settlement and the look at the chain "
            f"are a stub; {spread(ours)}",
        ),
        Row(
            "paid by authorization ÷ mppx on Express",
            f"{ratio:.2f}×",
            f"≥ {TARGET}×",
            ratio >= TARGET,
            f"peer {median(theirs):,.0f} r/CPU-s: challenge, authorization's signature, receipt; "
            f"settlement is a stub, and it stores nothing; {spread(theirs)}",
        ),
    ]


def _paid(port: int, pid: int, path: str, *, signed: bool) -> float:
    """Requests per CPU second of one round; what they answer was asked for before."""
    caller = tcp(port)
    requests = [_request(caller, path, signed=signed) for _ in range(REQUESTS)]
    caller.close()
    return drive(port, pid, requests, expect=200).per_cpu_second


def _request(caller: Caller, path: str, *, signed: bool) -> bytes:
    """One that pays what a request without payment was told to."""
    signer = Signer.new()

    def headers() -> dict[str, str]:
        return signer.headers() if signed else {}

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
