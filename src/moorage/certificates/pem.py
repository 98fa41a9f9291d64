"""Certificates with their keys, as PEM (RFC 5280, RFC 7468): made, read and compared."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


class CertificateInvalid(ValueError):
    """What is wrong with a certificate or its key, as a sentence."""


class Certificate(NamedTuple):
    """A certificate with its chain and its private key, both as PEM, and what it says of itself."""

    names: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int
    chain: str
    key: str

    @property
    def pem(self) -> bytes:
        """What the proxy gets: the chain, its own certificate first, and the key."""
        return joined(self.chain, self.key)


def joined(chain: str, key: str) -> bytes:
    """Returns what the proxy gets of a chain and its key."""
    return f"{chain.strip()}\n{key.strip()}\n".encode()


def digest(pem: bytes) -> str:
    """Returns the SHA-256 of what the proxy gets, in hex."""
    return hashlib.sha256(pem).hexdigest()


def new_key() -> str:
    """Returns a new private key, P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return key_text(ec.generate_private_key(ec.SECP256R1()))


def key_text(key: "ec.EllipticCurvePrivateKey") -> str:
    """Returns a private key as PEM (PKCS #8)."""
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def parse_certificate(chain: str, key: str) -> Certificate:
    """Returns a certificate that fits its key. Raises CertificateInvalid."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        first, *_ = x509.load_pem_x509_certificates(chain.encode())
        private = serialization.load_pem_private_key(key.encode(), password=None)
        extension = first.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        fits = private.public_key() == first.public_key()
    except x509.ExtensionNotFound as error:
        raise CertificateInvalid("it names no host") from error
    except (ValueError, TypeError) as error:  # TypeError: the key has a password
        raise CertificateInvalid(f"it cannot be read ({error})") from error
    if not fits:
        raise CertificateInvalid("certificate and key do not fit each other")
    return Certificate(
        names=tuple(extension.value.get_values_for_type(x509.DNSName)),
        not_before_ms=_ms(first.not_valid_before_utc),
        not_after_ms=_ms(first.not_valid_after_utc),
        chain=chain,
        key=key,
    )


def read_certificate(file: Path, key: Path) -> Certificate:
    """Returns the certificate in two files. Raises CertificateInvalid, which names them."""
    try:
        return parse_certificate(file.read_text("ascii"), key.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateInvalid(f"{file} or {key} cannot be read ({error})") from error
    except CertificateInvalid as error:
        raise CertificateInvalid(f"{file} and {key}: {error}") from error


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
