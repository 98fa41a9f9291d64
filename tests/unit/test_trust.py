import ssl
from pathlib import Path

import pytest

from moorage.trust import trusting
from support.certificates import authority_and_certificate


def greet(trust: ssl.SSLContext, certificate: Path) -> None:
    """A whole handshake with a server that shows the certificate; no byte leaves the process."""
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(certificate, certificate.with_suffix(".key"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(down, up, server_hostname="127.0.0.1")
    server = shown.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


def test_authority_that_names_no_key_usage_is_trusted_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate = authority_and_certificate(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        greet(trusting(), certificate)
    greet(trusting(authority), certificate)
    greet(trusting(only=str(authority)), certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    greet(trusting(), certificate)


def test_authority_whose_file_is_not_there_yet_hinders_nobody(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        trusting(only=str(tmp_path / "none.pem"))
    authority, certificate = authority_and_certificate(tmp_path)
    greet(trusting(tmp_path / "none.pem", authority), certificate)
