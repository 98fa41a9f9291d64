"""The paywall: the one road from evidence to credit.

Verify the transaction on chain, claim each of its transfers once, credit whoever paid. Money that
arrived is credited in a transaction of its own, before anybody asks whether it is enough.
"""

import msgspec

from moorage.clock import Clock
from moorage.errors import MoorageError, PayerMismatch, PaymentAlreadyUsed
from moorage.ledger import ledger
from moorage.metrics import record_payment
from moorage.money import MicroUsd
from moorage.payments.evidence import Evidence
from moorage.payments.payment import Payment, PaymentStatus
from moorage.payments.verification import Verifier
from moorage.storage import payments, quotes
from moorage.storage.database import Database


class Receipt(msgspec.Struct, frozen=True):
    """What a payment did: `credited` is what the caller newly received, zero on a repeat."""

    chain_id: int
    tx_hash: str
    credited: MicroUsd


class Paywall:
    """Takes evidence in, gives credits out."""

    def __init__(self, *, db: Database, verifier: Verifier, clock: Clock) -> None:
        self._db = db
        self._verifier = verifier
        self._clock = clock

    async def take(self, evidence: Evidence, *, wallet: str, unique_name: str) -> Receipt:
        """Credit the transaction and say what it brought `wallet`.

        Raises PaymentAlreadyUsed, PayerMismatch (the payer is credited all the same),
        PaymentPending, PaymentNotFound, ChainUnavailable, DatabaseUnavailable. A transaction that
        was credited but has not paid for a deployment yet is taken again, bringing nothing new.
        """
        means = evidence.means
        try:
            receipt = await self._take(evidence, wallet=wallet, unique_name=unique_name)
        except MoorageError as error:
            outcome = type(error).__name__
            record_payment(chain=means.chain.name, token=means.token.name, outcome=outcome)
            raise
        record_payment(chain=means.chain.name, token=means.token.name, outcome="Taken")
        return receipt

    async def _take(self, evidence: Evidence, *, wallet: str, unique_name: str) -> Receipt:
        chain_id, tx_hash = evidence.means.chain.chain_id, evidence.tx_hash
        await self.refuse_used(chain_id=chain_id, tx_hash=tx_hash, wallet=wallet)
        known = await payments.of_transaction(self._db, chain_id=chain_id, tx_hash=tx_hash)
        payers = {item.payer for item in known if _counts(item, evidence)}
        credited = MicroUsd(0)
        if not payers:
            received = await self._credit(evidence, wallet=wallet, unique_name=unique_name)
            payers = set(received)
            credited = received.get(wallet, credited)
        if wallet not in payers:
            raise PayerMismatch
        return Receipt(chain_id=chain_id, tx_hash=tx_hash, credited=credited)

    async def refuse_used(self, *, chain_id: int, tx_hash: str, wallet: str) -> None:
        """Raise PaymentAlreadyUsed if it paid for a deployment: for a payer, with the ids.

        Where several wallets paid in one transaction (bundled user operations), each uses its own
        share once.
        """
        uses = await payments.uses_of(self._db, chain_id=chain_id, tx_hash=tx_hash)
        if wallet in uses:
            project_id, deployment_id = uses[wallet]
            raise PaymentAlreadyUsed(project_id=project_id, deployment_id=deployment_id)
        known = await payments.of_transaction(self._db, chain_id=chain_id, tx_hash=tx_hash)
        if uses and all(item.payer != wallet for item in known):
            raise PaymentAlreadyUsed

    async def _credit(
        self, evidence: Evidence, *, wallet: str, unique_name: str
    ) -> dict[str, MicroUsd]:
        """Credit every transfer of the transaction; gives what each of its payers received."""
        chain, token = evidence.means.chain, evidence.means.token
        transfers = await self._verifier.transfers(
            chain=chain, token=token, tx_hash=evidence.tx_hash
        )
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            received = await ledger.credit_transfers(tx, transfers, now_ms=now_ms)
            if received.get(wallet, 0) > 0:
                await quotes.receive(
                    tx,
                    wallet=wallet,
                    unique_name=unique_name,
                    amount=received[wallet],
                    now_ms=now_ms,
                )
        return {t.payer: received.get(t.payer, MicroUsd(0)) for t in transfers}


def _counts(payment: Payment, evidence: Evidence) -> bool:
    """Whether it is money in the token named, that is still on the chain as far as we know."""
    is_token = payment.token_address == evidence.means.token.key
    return is_token and payment.status is not PaymentStatus.REVERSED
