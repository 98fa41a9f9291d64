"""Uploads of 45 MB: what they cost in memory, and what they do to everybody else's answers."""

import base64
import json
import secrets
import statistics
import threading
import time
from dataclasses import dataclass
from itertools import count

from gateway import api_port, example_files, gateway
from load import Caller, request_bytes, tcp
from measure import LOAD_CPU, MIB, Row, forget_peak, median, on_cpu, peak_bytes, resident_bytes
from signing import Signer

ROUNDS = 5
UPLOAD_MB = 45
FILES = 50
AT_ONCE = 8
_PAUSE_SECONDS = 0.001
_HEALTH = request_bytes("GET", "/health", {})
_QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Round:
    """What was seen of the gateway while uploads were under way."""

    peak_bytes: int  # of resident memory
    health_seconds: list[float]
    seconds: float


def run() -> list[Row]:
    """Growth of resident memory, and the slowest answer of `/health` meanwhile."""
    names = (f"bench-upload-{number}" for number in count())
    with gateway() as started, on_cpu(LOAD_CPU):
        port, pid = api_port(started), started.pid
        _round(port, pid, [_request(next(names), megabytes=0.01) for _ in range(AT_ONCE)])
        quiet = _quiet(port)
        before = resident_bytes(pid)
        alone = [_round(port, pid, [_request(next(names))]) for _ in range(ROUNDS)]
        together = [
            _round(port, pid, [_request(next(names)) for _ in range(AT_ONCE)])
            for _ in range(ROUNDS)
        ]
    return [
        Row("/health without uploads, slowest", f"{max(quiet) * 1000:.1f} ms"),
        *_rows("one upload of 45 MB", alone, before, memory_mib=16, health_ms=25),
        *_rows("eight at once", together, before, memory_mib=64, health_ms=50),
    ]


def _rows(
    subject: str, rounds: list[Round], before: int, *, memory_mib: int, health_ms: int
) -> list[Row]:
    grown = max(it.peak_bytes - before for it in rounds) / MIB
    slowest = [max(it.health_seconds) * 1000 for it in rounds]
    usual = statistics.median([second for it in rounds for second in it.health_seconds]) * 1000
    took = median([it.seconds for it in rounds]) * 1000
    return [
        Row(
            f"{subject}: resident memory grows by",
            f"{grown:.1f} MiB",
            f"< {memory_mib} MiB",
            grown < memory_mib,
            f"most in {len(rounds)} rounds, over the time before any upload; took {took:.0f} ms",
        ),
        Row(
            f"{subject}: slowest /health meanwhile",
            f"{median(slowest):.1f} ms",
            f"< {health_ms} ms",
            median(slowest) < health_ms,
            f"of each round; median answer {usual:.2f} ms, slowest of all {max(slowest):.1f}",
        ),
    ]


def _round(port: int, pid: int, requests: list[bytes]) -> Round:
    refused: list[Exception] = []
    uploads = [threading.Thread(target=_upload, args=(port, it, refused)) for it in requests]
    forget_peak(pid)
    started = time.perf_counter()
    for upload in uploads:
        upload.start()
    health = tcp(port)
    seen = []
    while any(upload.is_alive() for upload in uploads):
        seen.append(_health(health))
        time.sleep(_PAUSE_SECONDS)
    health.close()
    assert not refused, refused
    return Round(peak_bytes(pid), seen, time.perf_counter() - started)


def _quiet(port: int) -> list[float]:
    health, end = tcp(port), time.perf_counter() + _QUIET_SECONDS
    seen = []
    while time.perf_counter() < end:
        seen.append(_health(health))
        time.sleep(_PAUSE_SECONDS)
    health.close()
    return seen


def _health(caller: Caller) -> float:
    asked = time.perf_counter()
    status, _, _ = caller.ask(_HEALTH)
    assert status == 200
    return time.perf_counter() - asked


def _upload(port: int, request: bytes, refused: list[Exception]) -> None:
    try:
        caller = tcp(port)
        status, head, body = caller.ask(request)
        caller.close()
        assert status == 402, (head, body)
    except (AssertionError, OSError) as error:
        refused.append(error)


def _request(name: str, *, megabytes: float = UPLOAD_MB) -> bytes:
    """An unpaid deploy of hello-node and a lot of noise: a body of 45 MB in all."""
    noise = int(megabytes * 1_000_000) * 3 // 4 // FILES
    files = {path: text.encode() for path, text in example_files("hello-node").items()}
    files |= {f"assets/{number}.bin": secrets.token_bytes(noise) for number in range(FILES)}
    upload = [
        {"path": path, "content": base64.b64encode(content).decode()}
        for path, content in files.items()
    ]
    body = {"uniqueName": name, "displayName": name, "upload": {"type": "files", "files": upload}}
    return request_bytes("POST", "/agent/deploy", Signer.new().headers(), json.dumps(body).encode())
