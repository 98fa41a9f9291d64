"""The situation of an attempt: what the database says of its wallet and name, read once."""

import msgspec

from moorage.deploy.entrance.attempt import DeployAttempt
from moorage.deploy.entrance.change import NOT_REMOVED
from moorage.deploy.entrance.configuration import (
    UNCONFIGURED,
    CurrentConfig,
    current_config,
    refuse_stopped,
)
from moorage.deploy.entrance.loss import Successor, finds_volume, refuse_loss, volume_of
from moorage.errors import InvalidField
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.quotes import Quotes
from moorage.records.payments import Quote
from moorage.records.project import Project
from moorage.storage.database import Source
from moorage.storage.money import accounts, billing
from moorage.storage.vault import Vault


class Situation(msgspec.Struct, frozen=True):
    """All that decides on price and entrance, as one transaction reads it."""

    own: Project | None
    """The wallet's existing project of that name."""
    now: CurrentConfig
    """How that is configured."""
    living: list[Quote]
    """The wallet's valid quotes for the name."""
    balance: MicroUsd
    """Of the wallet's credits, or of the purse that the existing project lives from."""
    owes: MicroUsd
    """What apps have burned of it that is not charged yet."""
    sharing: list[MicroUsd]
    """The monthly price of each project that shares it."""

    @property
    def active(self) -> int:
        """The contract's `active_projects`."""
        return len(self.sharing)

    def successor(self, attempt: DeployAttempt) -> Successor:
        """Returns what becomes of the files of the version that serves."""
        settings = attempt.request.settings
        return Successor(
            volume=volume_of(
                self.own, wanted=bool(settings.volume), offered=attempt.offers_volumes
            ),
            releases_kept=attempt.releases_kept,
            finds_volume=finds_volume(
                attempt.findings, attempt.plan, self.now.with_settings(settings).run
            ),
            volume_bytes=attempt.volume_bytes,
            discard=attempt.request.discard_written,
            named="This deploy",
        )

    def will_have_volume(self, attempt: DeployAttempt) -> bool:
        """Returns whether the project has a volume, or gets one by the attempt."""
        return bool(attempt.request.settings.volume) or (self.own is not None and self.own.volume)

    def told(self, attempt: DeployAttempt) -> "Situation":
        """Returns what the attempt's answers may tell of it."""
        if not attempt.is_veiled:
            return self
        return msgspec.structs.replace(self, balance=NOTHING, owes=NOTHING, sharing=[])

    @property
    def received(self) -> MicroUsd:
        """What was paid so far towards the name."""
        return max((quote.received_micro_usd for quote in self.living), default=MicroUsd(0))


OPENED = Situation(
    own=None,
    now=UNCONFIGURED,
    living=[],
    balance=NOTHING,
    owes=NOTHING,
    sharing=[],
)
"""That of every attempt for which a payment alone speaks."""


async def read_situation(
    source: Source,
    attempt: DeployAttempt,
    *,
    quotes: Quotes,
    metering: Metering,
    vault: Vault,
) -> Situation:
    """Reads the situation; raises errors that must come before any payment.

    These are NameUnavailable, ProjectBlocked, ProjectPaused, VariablesUnreadable, FilesWouldBeLost
    unless the same deployment is under way already, and InvalidField for too many variables, or a
    volume that is to be removed. A payment alone does not say who asks: nothing of its payer's
    counts, and a name that anybody has raises NameUnavailable.
    """
    wallet, request = attempt.wallet, attempt.request
    if attempt.is_open:
        await quotes.require_free(source, payer=wallet, unique_name=request.unique_name)
        UNCONFIGURED.with_settings(request.settings)
        return OPENED
    own, living = await quotes.of_name(source, wallet=wallet, unique_name=request.unique_name)
    row = await accounts.wallet_row(source, wallet)
    refuse_stopped(row, own)
    if own is not None and own.volume and request.settings.volume is False:
        raise InvalidField("settings.volume", NOT_REMOVED)
    now = UNCONFIGURED if own is None else await current_config(source, vault, own)
    now.with_settings(request.settings)
    holder = wallet if own is None else await ledger.holder_for(source, own.id, wallet=wallet)
    commitments = await billing.of_holder(source, holder)
    situation = Situation(
        own=own,
        now=now,
        living=living,
        balance=row.balance if holder == wallet else await accounts.balance(source, holder),
        owes=metering.owed(commitments.burning),
        sharing=commitments.sharing,
    )
    if attempt.request_digest not in {each.request_digest for each in now.under_way}:
        refuse_loss(attempt.written, situation.successor(attempt))
    return situation
