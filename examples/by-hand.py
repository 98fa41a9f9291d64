"""Deploys examples/hello-node by hand: what any agent does, without Moorage's own client.

`moorage dev` must be running here (`make dev`). Then:

    .venv/bin/pip install eth-account
    .venv/bin/python examples/by-hand.py
"""

import base64
import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from eth_account import Account
from eth_account.messages import encode_defunct

dev = json.loads(Path(".moorage/dev.json").read_text())
wallet = Account.from_key(dev["wallets"][-1]["private_key"])


def http(url, headers, body=None, method="POST"):
    """One HTTP request; its status and its JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)


def gateway(method, path, body=None, **payment):
    """A request signed by the wallet: EIP-191 personal_sign over wallet:timestamp:nonce."""
    stamp, nonce = str(time.time_ns() // 1_000_000), str(uuid.uuid4())
    text = encode_defunct(text=f"{wallet.address}:{stamp}:{nonce}")
    signed = {
        "X-Wallet-Address": wallet.address,
        "X-Timestamp": stamp,
        "X-Nonce": nonce,
        "X-Signature": wallet.sign_message(text).signature.to_0x_hex(),
    }
    return http(dev["gateway"] + path, signed | payment, body, method)


def chain(method, *parameters):
    """A call to the local chain's node."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    return http(dev["chains"]["arbitrum"]["rpc_url"], {}, call)[1]["result"]


def transfer(token, to, amount):
    """Send an ERC-20 transfer from the wallet; its transaction's hash."""
    signed = wallet.sign_transaction(
        {
            "chainId": dev["chains"]["arbitrum"]["chain_id"],
            "nonce": int(chain("eth_getTransactionCount", wallet.address, "pending"), 16),
            "to": token,
            "value": 0,
            "data": f"0xa9059cbb{to[2:].lower():0>64}{amount:064x}",
            "gas": 120_000,
            "maxFeePerGas": 2 * int(chain("eth_gasPrice"), 16),
            "maxPriorityFeePerGas": 0,  # a tip would raise the local chain's price for everybody
        }
    )
    return chain("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())


files = [
    {"path": path.name, "content": base64.b64encode(path.read_bytes()).decode()}
    for path in sorted(Path("examples/hello-node").iterdir())
]
name = f"by-hand-{uuid.uuid4().hex[:8]}"
app = {"uniqueName": name, "displayName": "By hand", "upload": {"type": "files", "files": files}}

status, price = gateway("POST", "/agent/deploy", app)
print(status, price["error"], price["amount_usd"], price["token"], "to", price["pay_to"])

tx = transfer(price["token_address"], price["pay_to"], int(price["amount_token"]))
print("paid in", tx)

status, deployed = gateway("POST", "/agent/deploy", app, **{"X-Payment-Tx": tx})
print(status, deployed["message"])

where = f"/agent/deploy/{deployed['projectId']}/{deployed['deploymentId']}/status"
while (answer := gateway("GET", where)[1])["status"] == "deploying":
    time.sleep(2)  # 30 requests a minute are allowed
print(answer["status"], answer.get("endpoint") or answer["reason"])
