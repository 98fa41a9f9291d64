"""The gateway's own authority: a root that its visitors trust, and certificates that it signs."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moorage.certificates.authority import Account, Accounts, Proofs
from moorage.certificates.pem import key_text
from moorage.clock import Clock

_ROOT_DAYS = 3650
_LEAF_DAYS = 30
_EARLIER = timedelta(hours=1)  # visitors' clocks differ


class InternalAuthority:
    """Signs with a root that is in the rows, so that all gateways have the same."""

    directory = ""
    is_limited = False

    def __init__(self, accounts: Accounts, *, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def root(self) -> str:
        """Returns the root certificate, PEM; makes it at the first call."""
        return (await self._opened()).account

    async def certify(self, name: str, key: str, proofs: Proofs) -> str:  # noqa: ARG002
        """As `Authority.certify`; asks for no proof, as the gateway decides on its own names."""
        opened = await self._opened()
        now = datetime.fromtimestamp(self._clock.now_ms() // 1000, UTC)
        signed = _leaf(name, key, now=now, root=opened)
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    async def _opened(self) -> Account:
        found = await self._accounts.of(self.directory)
        if found is None:
            now = datetime.fromtimestamp(self._clock.now_ms() // 1000, UTC)
            found = await self._accounts.store(self.directory, _new_root(now))
        return found


def _new_root(now: datetime) -> Account:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Moorage {now:%Y} root")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    root = (
        _builder(key.public_key(), now=now, days=_ROOT_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Account(key_text(key), root.public_bytes(serialization.Encoding.PEM).decode())


def _leaf(name: str, key: str, *, now: datetime, root: Account) -> x509.Certificate:
    signer, signing_key = _parsed(root)
    private = serialization.load_pem_private_key(key.encode(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)  # noqa: S101 (we made it)
    public = private.public_key()
    return (
        _builder(public, now=now, days=_LEAF_DAYS)
        .subject_name(x509.Name([]))
        .issuer_name(signer.subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )


def _builder(
    public: ec.EllipticCurvePublicKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _parsed(root: Account) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = x509.load_pem_x509_certificate(root.account.encode())
    key = serialization.load_pem_private_key(root.key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("its key is of another kind than P-256")
    return certificate, key
