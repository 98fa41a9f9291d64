"""The settings that payments use."""

import msgspec

from moorage.payments.relay.relayer import GWEI, Limits


class PaymentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field has its name in `moorage.settings`, which documents it."""

    requests_per_minute: int
    offer_first: str
    payment_wait_seconds: int
    safe_above_micro_usd: int
    agree_above_micro_usd: int
    watch_seconds: int
    screening_command: tuple[str, ...]
    screening_url: str
    screening_seconds: int
    relayer_key_file: str
    relayer_max_gas: int
    relayer_max_fee_gwei: int
    relayer_reserve_gwei: int
    relayer_reverted_gwei: int

    @property
    def relayer_limits(self) -> Limits:
        """What the relayer may spend."""
        return Limits(
            gas=self.relayer_max_gas,
            fee_wei=self.relayer_max_fee_gwei * GWEI,
            reserve_wei=self.relayer_reserve_gwei * GWEI,
            reverted_wei=self.relayer_reverted_gwei * GWEI,
        )
