"""A wallet hands an agent some power over its apps, and what a stolen agent can do with it."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.clients.wallet import HELLO, Answer, Wallet, deploy_body, fresh_name, new_key
from support.gateway.gateway_fixture import DevGateway, moorage

pytestmark = pytest.mark.root


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Agent(Wallet):
    """Holds a key without money, and acts for an owner."""

    owner: Wallet

    async def acts(self, method: str, path: str, *, body: Any = None, **headers: str) -> Answer:
        """One request of its own, for the owner."""
        given = {"X-On-Behalf-Of": self.owner.address} | headers
        return await self.call_bound(method, path, json=body, headers=given)


def command(who: Wallet, *arguments: str, **environment: str) -> Said:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOORAGE_")}
    named = {"MOORAGE_GATEWAY": who.gateway.url, "MOORAGE_PRIVATE_KEY": who.key}
    done = moorage(*arguments, cwd=Path("/"), env=clean | named | environment)
    return Said(done.returncode, done.stdout, done.stderr)


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.get("code", "")


@pytest.fixture
async def owner(dev_gateway: DevGateway) -> Wallet:
    """With $5 of credits."""
    wallet = await Wallet(dev_gateway).fund()
    tx = await wallet.pay(5_000_000)
    topped = await wallet.call("POST", "/agent/credits", headers={"X-Payment-Tx": tx})
    assert topped.status == 200, topped.body
    return wallet


def agent_of(owner: Wallet, *flags: str) -> Agent:
    """An agent that the owner has just let act for it, by the command."""
    agent = Agent(owner.gateway, new_key())
    agent.owner = owner
    added = command(owner, "delegate", "add", agent.address, *flags, "--json")
    assert added.code == 0, added.err
    assert added.document["delegate"] == agent.address
    return agent


ALL = ("--scope", "read", "--scope", "deploy", "--scope", "delete")


async def test_agent_deploys_for_its_owner_from_a_purse_and_every_row_says_so(
    owner: Wallet, tmp_path: Path
) -> None:
    agent, name = agent_of(owner, *ALL, "--limit", "2"), fresh_name()
    (tmp_path / "index.js").write_text(HELLO["index.js"])
    told = {"MOORAGE_ON_BEHALF_OF": owner.address, "MOORAGE_STATE_DIR": str(tmp_path / "state")}
    deployed = command(agent, "deploy", str(tmp_path), "--name", name, "--json", **told)
    assert deployed.code == 0, deployed.err

    shown = (await owner.call("GET", f"/agent/projects/{name}")).body
    assert shown["purse"]["shared"] is False
    assert 0 < shown["purse"]["balance_usd"] <= 0.5
    listed = (await owner.call("GET", f"/agent/projects/{name}/deployments")).body["deployments"]
    assert [each["actedBy"] for each in listed] == [agent.address.lower()]
    events = (await owner.call("GET", "/agent/events")).body["events"]
    ready = [each for each in events if each["type"] == "deployment.ready"]
    assert [each["data"]["acted_by"] for each in ready] == [agent.address.lower()]
    deleted = command(agent, "delete", name, "--yes", **told)
    assert deleted.code == 0, deleted.err
    assert (await owner.call("GET", f"/agent/projects/{name}")).status == 404


async def test_agent_whose_owner_has_too_little_hears_how_its_credits_grow(
    owner: Wallet, tmp_path: Path
) -> None:
    agent = agent_of(owner, *ALL, "--limit", "100")
    (tmp_path / "index.js").write_text(HELLO["index.js"])
    told = {"MOORAGE_ON_BEHALF_OF": owner.address, "MOORAGE_STATE_DIR": str(tmp_path / "state")}
    refused = command(agent, "deploy", str(tmp_path), "--name", "shop", "--months", "12", **told)
    assert refused.code != 0
    assert f"topup AMOUNT --for {owner.address.lower()}" in refused.err


async def test_stolen_agent_gets_at_nothing_beyond_its_scopes_and_its_limit(owner: Wallet) -> None:
    agent, mine = agent_of(owner, *ALL, "--limit", "1"), fresh_name()
    assert (await owner.deploy(mine)).status == 200
    project = f"/agent/projects/{mine}"
    beyond = [
        *(("POST", f"{project}/{what}", None) for what in ("tokens", "adopt", "exports")),
        ("POST", f"{project}/transfer", {"to": agent.address}),
        ("PUT", f"{project}/purse", {"take_usd": 1}),
        ("PUT", "/agent/webhook", {"url": "https://thief.example"}),
        ("POST", "/agent/links", {"once": True}),
        ("POST", "/agent/delegates/epoch", None),
        ("POST", "/agent/credits", {"amount_usd": 1}),
    ]
    for method, path, body in beyond:
        answer = await agent.acts(method, path, body=body)
        assert refusal(answer) == (403, "delegate_scope"), (path, answer.body)
    limited = await agent.acts(
        "POST", "/agent/deploy", body=deploy_body(fresh_name(), HELLO, months=3)
    )
    assert refusal(limited) == (403, "delegate_limit"), limited.body
    assert (await owner.call("GET", "/agent/credits")).body["balance_usd"] > 4.99
    gone = await agent.acts("DELETE", project)
    assert gone.body["status"] == "deleted"
    assert "credits_usd" not in gone.body


async def test_what_was_signed_for_an_agent_is_no_power_for_anybody_else(owner: Wallet) -> None:
    agent = agent_of(owner, "--scope", "read")
    signed = agent.signed() | {"X-On-Behalf-Of": owner.address}  # version 1: it names no request
    relayed = await Wallet(owner.gateway, agent.key).call("GET", "/agent/credits", headers=signed)
    assert refusal(relayed) == (401, "signature_unbound")
    thief = Agent(owner.gateway, new_key())
    thief.owner = owner
    assert refusal(await thief.acts("GET", "/agent/credits")) == (403, "delegate_scope")
    assert (await agent.acts("GET", "/agent/credits")).body["wallet"] == owner.address
    own = await agent.call_bound("GET", "/agent/credits")
    assert own.body["wallet"] == agent.address


async def test_ended_delegation_is_refused_however_it_is_shown_again(owner: Wallet) -> None:
    agent = agent_of(owner, "--scope", "read")
    (listed,) = command(owner, "delegate", "--json").document["delegates"]
    assert (await agent.acts("GET", "/agent/projects")).status == 200
    assert command(owner, "delegate", "remove", listed["id"]).code == 0
    assert refusal(await agent.acts("GET", "/agent/projects")) == (403, "delegate_scope")
    other = agent_of(owner, "--scope", "read")
    ended = command(owner, "delegate", "end-all", "--json").document
    assert (ended["epoch"], ended["ended"]) == (1, 1)
    assert refusal(await other.acts("GET", "/agent/projects")) == (403, "delegate_scope")
    assert (await agent_of(owner, "--scope", "read").acts("GET", "/agent/projects")).status == 200


async def test_keys_without_credits_leave_no_row(dev_gateway: DevGateway) -> None:
    stranger = Wallet(dev_gateway)
    refused = command(stranger, "delegate", "add", Wallet(dev_gateway).address)
    assert refused.code != 0
    assert "no credits" in refused.err
    assert refusal(await stranger.call_bound("POST", "/agent/delegates/epoch")) == (
        400,
        "invalid_request",
    )


async def test_what_an_agent_pays_is_credited_to_whom_it_names_and_never_by_a_proof_handed_on(
    owner: Wallet, tmp_path: Path
) -> None:
    agent = await Wallet(owner.gateway).fund()
    before = (await owner.call("GET", "/agent/credits")).body["balance_micro_usd"]
    told = {"MOORAGE_STATE_DIR": str(tmp_path), "MOORAGE_DATA_DIR": str(owner.gateway.data_dir)}
    bought = command(agent, "topup", "2", "--for", owner.address, "--yes", "--json", **told)
    assert bought.code == 0, bought.err
    account = (await owner.call("GET", "/agent/credits")).body
    assert account["balance_micro_usd"] == before + 2_000_000
    assert account["ledger"][0]["kind"] == "given"
    assert (await agent.call("GET", "/agent/credits")).body["balance_micro_usd"] == 0

    thief, tx = Wallet(owner.gateway), await owner.pay(1_000_000)
    body, paid = {"amount_usd": 1, "for": thief.address}, {"X-Payment-Tx": tx}
    relayed = await owner.call("POST", "/agent/credits", json=body, headers=paid)
    assert refusal(relayed) == (401, "signature_unbound")
    topped = await owner.call("POST", "/agent/credits", headers=paid)
    assert topped.body["credited_usd"] == 1
    late = await owner.call_bound("POST", "/agent/credits", json=body, headers=paid)
    assert refusal(late) == (409, "payment_already_used")
    assert (await thief.call("GET", "/agent/credits")).body["balance_micro_usd"] == 0
