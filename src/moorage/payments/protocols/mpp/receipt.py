"""The Payment-Receipt header of the answer to a paid request."""

from datetime import UTC, datetime

from moorage.payments.protocols.header_json import canonical_json, encode_base64url
from moorage.payments.protocols.mpp.challenge import METHOD


def receipt_header(
    *,
    challenge_id: str | None,
    tx_hash: str,
    chain_id: int,
    timestamp_ms: int,
    reference: str = "",
) -> str:
    """Returns the value of Payment-Receipt (draft-evm-charge-00, Receipt Generation).

    `challenge_id` is None for a payment that answered no challenge: by plain hash, or by x402.
    `reference` is the `externalId` of the challenge.
    """
    settled_at = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    receipt: dict[str, str | int] = {
        "chainId": chain_id,
        "method": METHOD,
        "reference": tx_hash,
        "status": "success",
        "timestamp": settled_at.replace("+00:00", "Z"),
    }
    if challenge_id is not None:
        receipt["challengeId"] = challenge_id
    if reference:
        receipt["externalId"] = reference
    return encode_base64url(canonical_json(receipt))
