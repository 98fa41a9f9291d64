"""A process killed outright has consumed what it consumed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.auth.nonces import NonceFile
from moorage.auth.wallet import Wallet
from moorage.clock import SystemClock
from moorage.errors import AlreadyRunning, NonceReused

WALLET = Wallet("0x" + "a" * 40)
NONCE = "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e"
FRESH = "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7f"

GATEWAY = """
import asyncio, sys
from pathlib import Path
from moorage.auth.nonces import NonceFile
from moorage.clock import SystemClock

async def main(directory, wallet, nonce):
    store = NonceFile(Path(directory), clock=SystemClock())
    timestamp_ms = SystemClock().now_ms()
    await store.consume(wallet, timestamp_ms, nonce)
    print(timestamp_ms, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_process_lets_no_consumed_nonce_through(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", GATEWAY, str(tmp_path), WALLET, NONCE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timestamp_ms = int(process.stdout.readline())
        with pytest.raises(AlreadyRunning):
            NonceFile(tmp_path, clock=SystemClock())
        process.send_signal(signal.SIGKILL)

    store = NonceFile(tmp_path, clock=SystemClock())
    with pytest.raises(NonceReused):
        await store.consume(WALLET, timestamp_ms, NONCE)
    with pytest.raises(NonceReused):
        await store.consume(WALLET, timestamp_ms + 1, NONCE)
    await store.consume(WALLET, timestamp_ms, FRESH)
    await store.close()
