"""Receipts of payments, as typed data (EIP-712) that anybody can check, and invoices."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from moorage.records.payments import Finality, PaymentStatus
from moorage.signing import keccak256
from moorage.wire.shape import Body, CamelBody, Time

_Whole = Annotated[str, Meta(pattern=r"^[0-9]{1,78}\Z")]
_Address = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
_Word = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{64}\Z")]
_DOMAIN = {"name": "Moorage receipt", "version": "1"}


class TypedField(Body, frozen=True):
    """A field of typed data."""

    name: str
    type: str


class ReceiptTypes(Body, frozen=True, kw_only=True):
    """The types of a receipt as typed data."""

    domain: list[TypedField] = msgspec.field(name="EIP712Domain")
    receipt: list[TypedField] = msgspec.field(name="Receipt")


class Receipt(CamelBody, frozen=True, kw_only=True):
    """One transfer to the gateway, as the gateway's books had it when the receipt was issued.

    Numbers are decimal text: no reader rounds them.
    """

    KINDS: ClassVar = {
        **dict.fromkeys(("host", "issuer", "symbol", "status", "finality"), "string"),
        **dict.fromkeys(("payer", "payee", "token"), "address"),
        **dict.fromkeys(("transaction", "blockHash"), "bytes32"),
        "refunds": "bytes32[]",
    }
    """The types of its fields, by their names; those of the others are uint256."""

    host: Annotated[str, Meta(description="the gateway's")]
    issuer: Annotated[str, Meta(description="the operator's name, if it gives one")]
    payer: _Address
    payee: _Address
    chain_id: _Whole
    token: Annotated[_Address, Meta(description="the token's contract")]
    symbol: str
    decimals: _Whole
    amount: Annotated[_Whole, Meta(description="in the token's atomic units")]
    credited_micro_usd: Annotated[_Whole, Meta(description="0 for what is not credited")]
    transaction: _Word
    log_index: _Whole
    block_number: _Whole
    block_hash: _Word
    credited_at_ms: Annotated[_Whole, Meta(description="when it was booked, Unix milliseconds")]
    status: PaymentStatus
    finality: Annotated[Finality, Meta(description="finalized: no chain takes it back")]
    refunded: Annotated[_Whole, Meta(description="of the amount, what was paid back and is safe")]
    refunds: Annotated[list[_Word], Meta(description="the transactions that paid it back")]
    issued_at_ms: _Whole

    @classmethod
    def fields(cls) -> list[TypedField]:
        """Returns the names and types of its fields, in their order."""
        names = [each.encode_name for each in msgspec.structs.fields(cls)]
        return [TypedField(name=name, type=cls.KINDS.get(name, "uint256")) for name in names]

    def digest(self) -> bytes:
        """Returns the 32 bytes that are signed. Source: EIP-712."""
        fields, sent = self.fields(), msgspec.to_builtins(self)
        kind = ",".join(f"{each.type} {each.name}" for each in fields)
        words = [_word(each.type, sent[each.name]) for each in fields]
        content = keccak256(keccak256(f"Receipt({kind})".encode()) + b"".join(words))
        domain = keccak256(b"EIP712Domain(string name,string version)") + b"".join(
            keccak256(value.encode()) for value in _DOMAIN.values()
        )
        return keccak256(b"\x19\x01" + keccak256(domain) + content)


def _word(kind: str, value: Any) -> bytes:
    match kind:
        case "string":
            return keccak256(value.encode())
        case "bytes32[]":
            return keccak256(b"".join(bytes.fromhex(each[2:]) for each in value))
        case "uint256":
            return int(value).to_bytes(32, "big")
    return bytes.fromhex(value[2:]).rjust(32, b"\0")


def _types() -> ReceiptTypes:
    domain = [TypedField(name=name, type="string") for name in _DOMAIN]
    return ReceiptTypes(domain=domain, receipt=Receipt.fields())


class SignedReceipt(Body, frozen=True, kw_only=True):
    """A receipt with its signature: typed data of EIP-712, as every library of wallets reads it."""

    types: ReceiptTypes = msgspec.field(default_factory=_types)
    primary_type: str = msgspec.field(name="primaryType", default="Receipt")
    domain: dict[str, str] = msgspec.field(default_factory=_DOMAIN.copy)
    message: Receipt
    signature: Annotated[str, Meta(description="r, s and v (27 or 28), in hex")]
    signer: Annotated[str, Meta(description="one of /.well-known/moorage-receipts.json")]


class ReceiptList(Body, frozen=True, kw_only=True):
    """The receipts of one transaction: one for each transfer of the wallet in it."""

    receipts: list[SignedReceipt]


class ReceiptKey(Body, frozen=True, kw_only=True):
    """An address that signs receipts, or signed them between two times, in Unix milliseconds."""

    address: str
    since_ms: int
    until_ms: Annotated[int | None, Meta(description="null: it signs now")]


class ReceiptKeys(Body, frozen=True, kw_only=True):
    """Whose signatures make a receipt this gateway's, the newest first."""

    host: str
    keys: list[ReceiptKey]


class InvoiceLine(Body, frozen=True, kw_only=True):
    """What one project used in a month, in one way."""

    month: Annotated[str, Meta(description="2026-04, in UTC")]
    project: Annotated[str, Meta(description="its name")]
    project_id: str = msgspec.field(name="projectId")
    what: str
    amount_micro_usd: int


class Invoice(Body, frozen=True, kw_only=True):
    """What was booked in some months: opening + paid + given - refunded + other - used = closing.

    In micro-USD, exactly; what purses of the wallet's projects have is the wallet's here.
    """

    number: str
    issuer: Annotated[list[str], Meta(description="the operator's name and address")]
    wallet: str
    since: Time
    until: Annotated[Time, Meta(description="not included")]
    is_final: Annotated[bool, Meta(description="whether these months are over")]
    opening_micro_usd: int
    paid_micro_usd: Annotated[int, Meta(description="credited, less what chains took back")]
    given_micro_usd: Annotated[
        int, Meta(description="without a payment: by the operator, or back for time not served")
    ]
    refunded_micro_usd: int
    other_micro_usd: int
    used_micro_usd: Annotated[int, Meta(description="the sum of the lines")]
    closing_micro_usd: int
    lines: list[InvoiceLine]
