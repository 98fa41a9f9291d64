"""A wallet with something on each of its pages: hostile names, failures, domains, money."""

import re
from dataclasses import dataclass

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

HOSTILE = "<script>alert(1)</script>\u202e\"'><img src=x onerror=alert(1)>"
LONG = "a-very-long-name-that-somebody-has-thought-of-" * 2

APP = {
    "index.js": """
console.log('\\u001b[31mred\\u001b[0m <script>alert(2)</script> \\u202e turned');
console.error('x'.repeat(600));
require('http').createServer((q, s) => s.end('hello')).listen(process.env.PORT);
"""
}
BROKEN = {
    "package.json": '{"scripts": {"build": "echo \'<b>no</b>\' && exit 3", "start": "node ."}}'
}


@dataclass(frozen=True)
class Furnished:
    """The wallet, and what its pages are about."""

    wallet: Wallet
    name: str  # the project's
    project_id: str
    deployment_id: str
    failed_id: str
    tx_hash: str

    def path(self, pattern: str) -> str:
        """A page's address, such as of `/wallet/projects/{project_id}`."""
        chain = self.wallet.gateway.info["chains"]["arbitrum"]
        known = {"chain_id": chain["chain_id"], "log_index": 0}
        names = vars(self) | known | {"wallet": self.wallet.address.lower()}
        return re.sub(r"\{(\w+)(?::int)?\}", lambda blank: str(names[blank[1]]), pattern)


async def furnished(gateway: DevGateway) -> Furnished:
    """Deploys, visits and fails, and asks for domains, as an agent does."""
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    asked = await wallet.deploy(name, APP)
    tx = await wallet.pay(int(asked.body["amount_token"]) * 2)
    about = LONG * 5
    deployed = await wallet.deploy(name, APP, tx=tx, displayName=HOSTILE, description=about)
    assert deployed.status == 200, deployed.body
    await wallet.settled(deployed)
    project = f"/agent/projects/{deployed.body['projectId']}"
    variables = {"GREETING": HOSTILE, LONG.upper().replace("-", "_"): "secret" * 50}
    changed = await wallet.call("PATCH", project, json={"runEnvs": variables})
    assert changed.status == 200, changed.body
    await wallet.call("POST", f"{project}/domains", json={"domain": "www.example.org"})
    await wallet.until_answers(name)

    async def is_measured() -> bool:
        used = await wallet.call("GET", f"{project}/usage")
        return bool(used.body["totals"]["requests"])

    await until(is_measured, pause_seconds=0.2)
    failed = await wallet.deploy_paid(fresh_name(), BROKEN, displayName=LONG)
    assert (await wallet.settled(failed))["status"] == "failed"
    return Furnished(
        wallet,
        name,
        project_id=deployed.body["projectId"],
        deployment_id=deployed.body["deploymentId"],
        failed_id=failed.body["projectId"],
        tx_hash=tx,
    )
