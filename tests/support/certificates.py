"""Certificates that tests make for servers on the loopback."""

import subprocess
from pathlib import Path


def authority_and_certificate(directory: Path) -> tuple[Path, Path]:
    """An authority that names no key usage, as those of one's own, and what it signed.

    The keys lie beside them, as `.key`.
    """
    authority, certificate = directory / "authority.pem", directory / "certificate.pem"
    _request("/CN=authority", authority)
    signed = ("-CA", authority, "-CAkey", authority.with_suffix(".key"))
    named = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
    _request("/CN=server", certificate, *signed, *named)
    return authority, certificate


def _request(subject: str, file: Path, *options: str | Path) -> None:
    made_as = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj {subject}"
    files = ("-out", file, "-keyout", file.with_suffix(".key"))
    command = ["openssl", "req", *made_as.split(), *files, *options]
    subprocess.run(command, check=True, capture_output=True)
