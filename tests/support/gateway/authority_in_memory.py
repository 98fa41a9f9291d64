"""A certificate authority behind the product's interface: it signs at once, or as a test says."""

import asyncio
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from moorage.certificates.authority import OrderFailed, Proof, Proofs
from moorage.clock import Clock

DIRECTORY = "https://authority.example/directory"


def certificate(name: str, key: str, *, now_ms: int, days: float = 90) -> str:
    """A certificate that signs itself, PEM, from now on."""
    private = serialization.load_pem_private_key(key.encode(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "in memory")]))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


class AuthorityInMemory:
    """Its own clock is right, whatever the gateway's says."""

    is_limited = True

    def __init__(self, clock: Clock, *, directory: str = DIRECTORY) -> None:
        self.directory = directory
        self.clock = clock
        self.days = 90.0
        self.failures: list[OrderFailed] = []  # of the next orders
        self.refused: dict[str, OrderFailed] = {}  # by name
        self.away: OrderFailed | None = None
        self.answers = asyncio.Event()  # orders hang until it is set
        self.answers.set()
        self.orders: list[str] = []
        self.begun = asyncio.Event()

    async def certify(self, name: str, key: str, proofs: Proofs) -> str:
        self.orders.append(name)
        self.begun.set()
        if self.away is not None:
            raise self.away
        if self.failures:
            raise self.failures.pop(0)
        if name in self.refused:
            raise self.refused[name]
        proof = Proof(name.removeprefix("*."), "" if name[0] == "*" else f"token-{name}", "value")
        async with proofs.placed(proof):
            await self.answers.wait()
        return certificate(name, key, now_ms=self.clock.now_ms(), days=self.days)
