"""The Machine Payments Protocol: challenges, credentials, receipts, problem types.

Sources: draft-httpauth-payment-00, and draft-evm-charge-00 for method `evm`, intent `charge`.
"""

from moorage.payments.protocols.mpp.challenge import (
    Challenge,
    CredentialType,
    challenge_header,
    make_challenge,
)
from moorage.payments.protocols.mpp.credential import (
    ChargeRequest,
    Credential,
    HashPayload,
    authorization_nonces,
    check_credential,
    parse_credential,
)
from moorage.payments.protocols.mpp.problem import ProblemType, problem_type
from moorage.payments.protocols.mpp.receipt import receipt_header

__all__ = [
    "Challenge",
    "ChargeRequest",
    "Credential",
    "CredentialType",
    "HashPayload",
    "ProblemType",
    "authorization_nonces",
    "challenge_header",
    "check_credential",
    "make_challenge",
    "parse_credential",
    "problem_type",
    "receipt_header",
]
