"""Deploys and top-ups of whoever pays, without wallet headers: a payment buys, and never rules.

An authorization says who pays, not who asks: it names neither host nor body, and whoever was handed
it can send it. So it opens a name that is free, or adds credits to its payer; it changes, reads and
yields nothing that was there before, and nothing of its payer's wallet counts or is told. The
payment is settled after all checks alone, so that nothing needs to be held for strangers: no name,
no price. It is good for one body, whose answer has a token the first time.
"""

import contextlib
import hashlib

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.deploy import (
    DeployRoom,
    close_upload,
    deploy,
    deployed,
    flag,
    quoted,
    read_attempt,
)
from moorage.api.http.bodies import read_whole
from moorage.api.http.managed import bearer_token
from moorage.api.http.payment.payer import OpenPayer, identify_nobody, identify_payer
from moorage.api.http.payment.payment_headers import OfferedPayment
from moorage.api.http.problems import json_response
from moorage.api.money.topup import TopUpRoom, amount_of, top_up, topped_up
from moorage.chains.address import checksum_address
from moorage.deploy.entrance.attempt import DeployAttempt
from moorage.errors import DatabaseUnavailable
from moorage.payments.taking.topup import TopUpRequest
from moorage.uploads.tree import Upload
from moorage.wire.credits import ToppedUp
from moorage.wire.deploy import Deployed

_OF_THE_BODY = (b"content-length", b"content-type")
_WITHOUT = (
    " This answer has no manage_token: the wallet makes one with "
    "POST /agent/projects/{projectId}/tokens."
)


async def pay_to_deploy(room: DeployRoom, request: Request) -> Response:
    """`POST /deploy`: deploy by paying alone, or say what it costs; no wallet headers needed."""
    if _is_signed(request):
        return await deploy(room, request)
    is_dry_run = flag(request, "x-dry-run")
    payer = await (identify_nobody if is_dry_run else identify_payer)(room, request)
    payment = OfferedPayment(payer.means, payer.evidence)
    attempt, upload = await read_attempt(room, request, payer.caller, payment)
    try:
        if is_dry_run:
            return await quoted(room, attempt)
        if payer.evidence is None:
            raise await room.admission.demand_openly(attempt, because=payer.because)
        return await _deployed(room, request, payer, attempt, upload)
    finally:
        await close_upload(upload)


async def pay_for_credits(room: TopUpRoom, request: Request) -> Response:
    """`POST /credits`: credits for whoever pays, or what to pay; wallet headers are not needed."""
    if _is_signed(request):
        return await top_up(room, request)
    payer = await identify_payer(room, request)
    body = await read_whole(request)
    asked = TopUpRequest(
        wallet=payer.caller.wallet,
        amount=amount_of(body, min_=room.minimum_charge),
        means=payer.means,
        evidence=payer.evidence,
        body_digest=hashlib.sha256(body).hexdigest(),
        is_proved=False,
    )
    if not await room.paywall.may_have_moved(asked.evidence):
        await room.house_rules.require_listed(room.db, "")  # whose it is, a signature would say
    if payer.evidence is None:
        raise await room.top_up.demand(asked, because=payer.because)
    answer = topped_up(await room.top_up.take(asked), tells=asked.tells)
    told = msgspec.json.decode(bytes(answer.body), type=ToppedUp)
    wallet = checksum_address(payer.caller.wallet)
    return _again(answer, msgspec.structs.replace(told, wallet=wallet))


async def _deployed(
    room: DeployRoom, request: Request, payer: OpenPayer, attempt: DeployAttempt, upload: Upload
) -> Response:
    """Deploys, and answers with a token the first time: what it is for was not there before."""
    answer, admitted = await deployed(room, request, attempt, upload)
    opens = admitted is not None and payer.is_fresh and not admitted.again
    token = await _token(room, admitted.project_id) if admitted and opens else UNSET
    return _opened(room, attempt, answer, token=token)


async def _token(room: DeployRoom, project_id: str) -> str | UnsetType:
    """Returns a new token; none if it can't be stored, as the deploy is done all the same."""
    with contextlib.suppress(DatabaseUnavailable):
        return await room.manage_tokens.make(project_id)
    return UNSET


def _opened(
    room: DeployRoom, attempt: DeployAttempt, answer: Response, *, token: str | UnsetType
) -> Response:
    """Returns the answer with the wallet, where to poll, and the token, which is stored nowhere."""
    told = msgspec.json.decode(bytes(answer.body), type=Deployed)
    path = f"/agent/deploy/{told.project_id}/{told.deployment_id}/status"
    without = _WITHOUT.format(projectId=told.project_id) if token is UNSET else ""
    opened = msgspec.structs.replace(
        told,
        message=told.message + without,
        wallet=checksum_address(attempt.wallet),
        status_url=room.public_url + path,
        manage_token=token,
    )
    return _again(answer, opened)


def _again(answer: Response, body: msgspec.Struct) -> Response:
    """Returns the answer with another body, for its receiver alone."""
    kept = [
        (name.decode(), value.decode("latin-1"))
        for name, value in answer.raw_headers
        if name not in (*_OF_THE_BODY, b"cache-control")
    ]
    return json_response(body, headers=[*kept, ("Cache-Control", "no-store")])


def _is_signed(request: Request) -> bool:
    """Whether something besides a payment says whose the request is."""
    named = any(name in request.headers for name in ("x-wallet-address", "sign-in-with-x"))
    return named or bearer_token(request) is not None
