"""What a gateway's log says while nothing is wrong."""

import json
import sys
from pathlib import Path

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root

HURRIED = Path(__file__).parent / "hurried_gateway.py"


async def test_healthy_gateway_logs_nothing_above_info_in_ten_minutes(tmp_path: Path) -> None:
    gateway = DevGateway(tmp_path / "quiet", program=(sys.executable, str(HURRIED)))
    gateway.start()
    try:
        wallet = await Wallet(gateway).fund()
        deployed = await wallet.deploy_paid(fresh_name())
        assert (await wallet.settled(deployed))["status"] == "ready"
        await until(lambda: not (gateway.data_dir / "dev.json").exists())
    finally:
        gateway.stop()
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    assert {line["level"] for line in lines} == {"info"}, gateway.log
