"""The client's uploads: their bytes travel once, and a deploy never fails for want of storing."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sdk_stubs import (
    PROJECT,
    REQUEST,
    CutShort,
    FakeTime,
    StubGateway,
    StubNode,
    answers,
    problem,
    serving,
)
from starlette.responses import Response

from moorage.chains.chain import KNOWN_CHAINS
from moorage.sdk.client import Client, DeployRequest
from moorage.sdk.journal import Journal
from moorage.sdk.payer import Bought, Payer
from moorage.sdk.signer import Signer
from moorage.wire.deploy import Deployed

KEY = "0x" + "11" * 32
PAGE = base64.b64encode(b"<h1>hello</h1>").decode()
INLINE = {"type": "files", "files": [{"path": "index.html", "content": PAGE}]}


class Setting:
    """A gateway, a node, and one client after the other."""

    def __init__(self, directory: Path) -> None:
        self.gateway, self.node, self.time = StubGateway(), StubNode(), FakeTime()
        self.directory = directory

    def client(self) -> Client:
        return Client(self.gateway.url, Signer(KEY), clock=self.time, pause=self.time.pause)

    async def deploy(self, client: Client, request: DeployRequest = REQUEST) -> Bought[Deployed]:
        arbitrum = msgspec.structs.replace(KNOWN_CHAINS["arbitrum"], rpc_urls=(self.node.url,))
        payer = Payer(
            client,
            Signer(KEY),
            chains={"arbitrum": arbitrum},
            journal=Journal(self.directory),
            approve=lambda _: True,
            clock=self.time,
            pause=self.time.pause,
        )
        return await payer.deploy(request)

    @property
    def sent(self) -> list[Any]:
        """The uploads of all deploys, asked and paid."""
        return [json.loads(body)["upload"] for body in self.gateway.bodies]


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    found = Setting(tmp_path)
    async with serving(found.gateway, found.node):
        yield found


async def test_upload_travels_once_for_question_and_payment(setting: Setting) -> None:
    async with setting.client() as client:
        deployed = await setting.deploy(client)
    assert deployed.answer.project_id == PROJECT
    ((digest, stored),) = setting.gateway.uploads.items()
    assert json.loads(stored) == INLINE
    assert len(setting.gateway.puts) == 1
    assert setting.sent == [{"type": "digest", "sha256": digest}] * 2


@pytest.mark.parametrize("status", [404, 405])
async def test_gateway_that_stores_nothing_gets_it_along_and_is_asked_once(
    setting: Setting, status: int
) -> None:
    setting.gateway.storing = problem(status, "not_found")
    async with setting.client() as client:
        await setting.deploy(client)
    assert len(setting.gateway.puts) == 1
    assert setting.sent == [INLINE] * 2


@pytest.mark.parametrize(
    "full",
    [
        problem(429, "too_many_uploads", retryable=True),
        problem(503, "no_capacity", retryable=True),
        problem(401, "nonce_reused", retryable=True),
        CutShort(),
    ],
)
async def test_upload_that_can_not_be_stored_now_goes_along_without_a_wait(
    setting: Setting, full: Response | CutShort
) -> None:
    setting.gateway.storing = full
    async with setting.client() as client:
        await setting.deploy(client)
        setting.gateway.storing = None
        await setting.deploy(client)
    assert setting.sent[:2] == [INLINE] * 2
    assert setting.sent[2]["type"] == "digest"
    assert setting.time.waits == []


async def test_upload_that_is_gone_goes_along_with_the_same_payment(setting: Setting) -> None:
    """A gateway forgets at a restart what it stored; the payment is shown again, none is made."""
    gone = problem(400, "upload_not_found", field="upload.sha256")
    setting.gateway.paid = [answers(gone)]
    async with setting.client() as client:
        deployed = await setting.deploy(client)
    assert deployed.payment is not None
    assert setting.gateway.hashes == [deployed.payment.tx_hash] * 2
    assert len(setting.node.payments) == 1
    assert [upload["type"] for upload in setting.sent] == ["digest", "digest", "files"]


async def test_what_was_forgotten_is_stored_again_for_the_next_deploy(setting: Setting) -> None:
    setting.gateway.paid = [answers(problem(400, "upload_not_found"))]
    async with setting.client() as client:
        await setting.deploy(client)
        await setting.deploy(client)
    assert len(setting.gateway.puts) == 2
    assert setting.sent[-1]["type"] == "digest"


async def test_another_refusal_is_told_and_nothing_is_sent_again(setting: Setting) -> None:
    setting.gateway.unpaid = lambda _: problem(400, "plan_not_found")
    async with setting.client() as client:
        with pytest.raises(Exception, match="plan_not_found"):
            await setting.deploy(client)
    assert len(setting.sent) == 1


async def test_request_can_be_stored_for_a_quote(setting: Setting) -> None:
    async with setting.client() as client:
        named = await client.stored(REQUEST)
        assert await client.stored(named) == named
        await setting.deploy(client)
    ((digest, _),) = setting.gateway.uploads.items()
    assert json.loads(named.encode())["upload"] == {"type": "digest", "sha256": digest}
    assert len(setting.gateway.puts) == 1
