"""Answers of an API that knows a little of everything, with `text` wherever strangers may write."""

from typing import Any

from page_asker import (
    DEPLOYMENT,
    NOW,
    PROJECT,
    account,
    deployment,
    deployment_shown,
    deployments,
    item,
    of_project,
    of_wallet,
    project_list,
    shown,
)

from moorage.clock import iso_utc
from moorage.pages.wallet.logs import Line, Lines
from moorage.records.deployment import DeploymentStatus, LogStream, Origin
from moorage.records.domain import DomainStatus
from moorage.records.event import DeliveryStatus, EventKind
from moorage.records.payments import PaymentStatus, RefundStatus
from moorage.records.run import RunKind, RunStatus
from moorage.wire.credits import CreditEntry, PaymentItem, PaymentList, RefundItem
from moorage.wire.deployments import DeploymentProgress
from moorage.wire.events import EventItem, EventPage, LastDelivery, WebhookShown
from moorage.wire.problems import Bought, PaymentDemand
from moorage.wire.projects import (
    DnsRecord,
    DomainItem,
    DomainList,
    LatencyItem,
    LoadItem,
    ProjectUsage,
    StateItem,
    UsageHourItem,
    UsageItem,
)
from moorage.wire.public import ChainItem
from moorage.wire.receipts import Invoice, InvoiceLine
from moorage.wire.runs import RunItem, RunList, ScheduleItem
from moorage.wire.shape import WarningCode, WarningItem
from support.gateway.clock import START_MS

TX = "0x" + "ab" * 32
TOKEN = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
_HOUR_MS = 3_600_000


def everything(text: str) -> dict[str, Any]:
    """What is answered, by method and path."""
    projects = f"GET /projects/{PROJECT}"
    return (
        of_wallet(
            account=account(ledger=_entries(), announcement=text),
            projects=project_list(item(display_name=text, description=text)),
            events=EventPage(events=[*_events(text)], last_sequence=20),
        )
        | of_project(
            shown=_project(text),
            listed=deployments(_failed(text), deployment(), _earlier()),
            deployment=deployment_shown(
                status=DeploymentStatus.FAILED, reason=text, reason_code="crashed"
            ),
            progress=_progress(text),
            runs=RunList(project_id=PROJECT, runs=[_run(text)], next=None),
        )
        | {
            "GET /payments": _payments(),
            "GET /invoice": invoice(),
            "GET /webhook": _webhook(text),
            "POST /credits": (402, demand()),
            f"{projects}/usage": usage(),
            f"{projects}/domains": _domains(text),
            f"{projects}/logs": lines(text),
            f"GET /deploy/{PROJECT}/{DEPLOYMENT}/logs": lines(text),
            f"GET /deploy/{PROJECT}/failed-one/status": _progress(text),
        }
    )


PAGES_SHOWN = (
    "/wallet",
    "/wallet/top-up",
    "/wallet/top-up/pay?amount=10&means=arbitrum/usdc",
    "/wallet/top-up/watch?since=0",
    "/wallet/credits",
    "/wallet/payments",
    f"/wallet/payments/{TX}",
    "/wallet/invoice",
    "/wallet/events",
    f"/wallet/projects/{PROJECT}",
    f"/wallet/projects/{PROJECT}/delete",
    f"/wallet/projects/{PROJECT}/deployments",
    f"/wallet/projects/{PROJECT}/deployments/{DEPLOYMENT}",
    f"/wallet/projects/{PROJECT}/logs",
    f"/wallet/projects/{PROJECT}/logs?search=a",
    f"/wallet/projects/{PROJECT}/metrics",
    f"/wallet/projects/{PROJECT}/variables",
    f"/wallet/projects/{PROJECT}/domains",
    f"/wallet/projects/{PROJECT}/settings",
)
"""Every page that is HTML."""


def lines(text: str, count: int = 40) -> Lines:
    streams = tuple(LogStream)
    return Lines(
        lines=[
            Line(time=iso_utc(START_MS + n * 250), stream=streams[n % 3], text=f"{n}: {text}")
            for n in range(count)
        ],
        next="77",
    )


def invoice() -> Invoice:
    return Invoice(
        number="2026-04-9d8a62f656a8",
        issuer=["Example Ltd", "1 Quay Street"],
        wallet="0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
        since="2026-04-01T00:00:00.000Z",
        until="2026-05-01T00:00:00.000Z",
        is_final=False,
        opening_micro_usd=1_000_000,
        paid_micro_usd=2_000_000,
        given_micro_usd=0,
        refunded_micro_usd=500_000,
        other_micro_usd=0,
        used_micro_usd=685,
        closing_micro_usd=2_499_315,
        lines=[
            InvoiceLine(
                month="2026-04",
                project="hello",
                project_id=PROJECT,
                what="running",
                amount_micro_usd=685,
            )
        ],
    )


def demand() -> PaymentDemand:
    return PaymentDemand(
        error="Payment required",
        code="payment_required",
        retryable=True,
        amount_usd=10,
        amount_token="10000000",
        current_credit_balance_usd=10,
        active_projects=1,
        pay_to="0x7EA5000000000000000000000000000000000001",
        payment_chain="arbitrum",
        token="usdc",
        token_address=TOKEN,
        chain_id=42161,
        decimals=6,
        supported_chains=[ChainItem(chain="arbitrum", chain_id=42161, tokens=["usdc", "usdt"])],
        expires_at=START_MS // 1000 + 1_800,
        buys=Bought(hours=1460, until=iso_utc(START_MS + 1460 * _HOUR_MS)),
    )


def usage() -> ProjectUsage:
    return ProjectUsage(
        project_id=PROJECT,
        from_=iso_utc(START_MS - 24 * _HOUR_MS),
        to=NOW,
        now=LoadItem(cpu_millis=120, memory_bytes=80 * 1024**2),
        totals=UsageItem(**_used(24)),
        states=[
            StateItem(state="awake", ms=20 * _HOUR_MS, burned_usd=0.0137),
            StateItem(state="asleep", ms=4 * _HOUR_MS, burned_usd=0.000548),
        ],
        hours=[
            UsageHourItem(hour=iso_utc((START_MS // _HOUR_MS - n) * _HOUR_MS), **_used(1))
            for n in range(20, 0, -1)
        ],
    )


def _used(times: int) -> dict[str, Any]:
    return {
        "requests": 120 * times,
        "status": {"1xx": 0, "2xx": 100 * times, "3xx": 5, "4xx": 10, "5xx": 5},
        "bytes_in": 40_000 * times,
        "bytes_out": 4_000_000 * times,
        "cpu_ms": 90_000 * times,
        "memory_byte_seconds": 3600 * 90 * 1024**2 * times,
        "memory_peak_bytes": 120 * 1024**2,
        "latency": LatencyItem(median_ms=12, p95_ms=180, slowest_ms=2400),
        "held": 2 * times,
        "held_ms": 1_500 * times,
    }


def _project(text: str) -> Any:
    return shown(
        display_name=text,
        description=text,
        domains=["shop.example.com"],
        run_env_names=["API_KEY", "MODE"],
        build_var_names=["TOKEN"],
        volume=True,
        warnings=[WarningItem(code=WarningCode.FILES_NOT_KEPT, message=text)],
        schedules=[
            ScheduleItem(
                name="nightly",
                cron="30 2 * * *",
                timezone="Europe/Berlin",
                command=text,
                timeout_seconds=600,
                next_due_at=NOW,
                last_run=_run(text),
            )
        ],
    )


def _run(text: str) -> RunItem:
    return RunItem(
        run_id="5a6b7c8d-run",
        status=RunStatus.FAILED,
        kind=RunKind.COMMAND,
        command=text,
        schedule="nightly",
        timeout_seconds=600,
        exit_code=1,
        reason=text,
        created_at=NOW,
        ran_seconds=12.0,
        charged_usd=0.000_012,
        has_log=True,
    )


def _failed(text: str) -> Any:
    return deployment(
        id="failed-one",
        status=DeploymentStatus.FAILED,
        is_serving=False,
        reason=text,
        reason_code="build_failed",
    )


def _earlier() -> Any:
    return deployment(
        id="earlier-one",
        status=DeploymentStatus.SUPERSEDED,
        origin=Origin.ROLLBACK,
        is_serving=False,
        can_roll_back=True,
    )


def _progress(text: str) -> Any:
    return DeploymentProgress(
        status="failed",
        deployment_id=DEPLOYMENT,
        reason=text,
        reason_code="crashed",
        log_tail=text,
        next_actions=[text],
    )


def _entries() -> list[CreditEntry]:
    def entry(kind: str, micro_usd: int, **others: str) -> CreditEntry:
        usd = micro_usd / 1_000_000
        return CreditEntry(
            id=kind, kind=kind, amount_usd=usd, amount_micro_usd=micro_usd, at=NOW, **others
        )

    return [
        entry("burn", -10_001, project_id=PROJECT),
        entry("payment", 10_000_000, chain="arbitrum", tx_hash=TX),
        entry("grant", 1_000_000),
    ]


def _events(text: str) -> list[EventItem]:
    return [
        EventItem(
            id=f"e{number}",
            sequence=number,
            type=kind,
            timestamp=NOW,
            data={"project_id": PROJECT, "deployment_id": DEPLOYMENT, "reason": text, "text": text},
        )
        for number, kind in enumerate(EventKind, start=1)
    ]


def _payments() -> PaymentList:
    refund = RefundItem(status=RefundStatus.REFUNDED, amount="1.000000", tx_hash=TX, at=NOW)
    return PaymentList(
        payments=[
            PaymentItem(
                chain="arbitrum",
                chain_id=42161,
                tx_hash=TX,
                log_index=3,
                token="usdc",
                amount="10.000000",
                credited_micro_usd=10_000_000,
                pay_to="0x7EA5000000000000000000000000000000000001",
                status=PaymentStatus.CREDITED,
                at=NOW,
                project_id=PROJECT,
                refunds=[refund],
            )
        ],
        next=None,
    )


def _webhook(text: str) -> WebhookShown:
    return WebhookShown(
        url="https://hooks.example.com/x",
        created_at=NOW,
        waiting=2,
        next_attempt_at=NOW,
        last_delivery=LastDelivery(status=DeliveryStatus.FAILED, attempts=3, error=text),
    )


def _domains(text: str) -> DomainList:
    records = [
        DnsRecord(type="TXT", name="_moorage.shop.example.com", value="moorage-verification=abc"),
        DnsRecord(type="CNAME", name="shop.example.com", value="my-app.example.com"),
    ]
    usual: dict[str, Any] = {"records": records, "created_at": NOW, "next_actions": []}
    return DomainList(
        project_id=PROJECT,
        domains=[
            DomainItem(
                domain="shop.example.com",
                status=DomainStatus.PENDING,
                url=None,
                problem=text,
                verified_at=None,
                checked_at=NOW,
                next_check_at=NOW,
                **usual,
            ),
            DomainItem(
                domain="www.example.com",
                status=DomainStatus.VERIFIED,
                url="https://www.example.com",
                problem="",
                verified_at=NOW,
                checked_at=NOW,
                next_check_at=None,
                **usual,
            ),
        ],
    )
