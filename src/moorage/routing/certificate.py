"""Reads certificates (X.509, RFC 5280): how long they last, and for which names they are."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _OCTETS, _UTC_TIME, _TIME = 0x30, 0x04, 0x17, 0x18  # tags of DER (X.690)
_DNS_NAME = 0x82  # the choice dNSName of a GeneralName
_EXTENSIONS = 0xA3  # the field [3] of a TBSCertificate
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")  # the object identifier 2.5.29.17
_THIS_CENTURY = 50  # a UTCTime's year below this is of it (RFC 5280, 4.1.2.5.1)
_LONG = 0x80  # marks a length of more than one byte


class CertificateInvalid(ValueError):
    """What is wrong with the file of a certificate, as a sentence."""


class Certificate(NamedTuple):
    """What a certificate says of itself."""

    names: tuple[str, ...]
    not_after_ms: int


class _Element(NamedTuple):
    tag: int
    content: bytes


def read_certificate(file: Path, *, key: Path | None = None) -> Certificate:
    """Returns the first certificate of a PEM file; with `key`, checks that they fit each other.

    Raises CertificateInvalid.
    """
    try:
        if key is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key)
        text = file.read_text("ascii")
    except ssl.SSLError as error:
        raise CertificateInvalid(
            f"{file} and {key} are no certificate with its key ({error.reason})"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateInvalid(f"{file} or its key cannot be read ({error})") from error
    body, end, _ = text.partition(_BEGIN)[2].partition(_END)
    if not end:
        raise CertificateInvalid(f"{file} holds no certificate")
    try:
        return _parsed(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{_END}"))
    except (ValueError, IndexError) as error:
        raise CertificateInvalid(f"{file} holds no certificate that can be read") from error


def _parsed(der: bytes) -> Certificate:
    (certificate,) = _elements(der)
    signed = list(_elements(next(_elements(certificate.content)).content))
    times = [
        inner
        for field in signed
        if field.tag == _SEQUENCE
        for inner in _elements(field.content)
        if inner.tag in (_UTC_TIME, _TIME)
    ]
    return Certificate(names=tuple(_names(signed)), not_after_ms=_time_ms(times[1]))


def _elements(content: bytes) -> Iterator[_Element]:
    """Yields the elements that follow each other in DER. Raises ValueError and IndexError."""
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & _LONG:
            size = length & ~_LONG
            length, at = int.from_bytes(content[at : at + size], "big"), at + size
        if at + length > len(content):
            raise ValueError("an element is longer than what holds it")
        yield _Element(tag, content[at : at + length])
        at += length


def _time_ms(element: _Element) -> int:
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:
        text = f"{20 if int(text[:2]) < _THIS_CENTURY else 19}{text}"
    time = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return round(time.timestamp() * 1000)


def _names(signed: list[_Element]) -> Iterator[str]:
    """Yields the DNS names of the extension subjectAltName."""
    for field in signed:
        if field.tag != _EXTENSIONS:
            continue
        (extensions,) = _elements(field.content)
        for extension in _elements(extensions.content):
            kind, *_, value = _elements(extension.content)
            if kind.content == _SUBJECT_ALT_NAME and value.tag == _OCTETS:
                (names,) = _elements(value.content)
                for name in _elements(names.content):
                    if name.tag == _DNS_NAME:
                        yield name.content.decode("ascii")
