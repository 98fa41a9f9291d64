"""Whom the gateway trusts as the servers that its operator named."""

import ssl
from pathlib import Path


def trusting(*roots: Path, only: str | None = None) -> ssl.SSLContext:
    """Returns what trusts the system's authorities and `roots`; or those of the file `only`.

    The system's are those of `SSL_CERT_FILE` where it is set. A root that is not there yet is left
    out. Blocks. Raises OSError, ssl.SSLError.
    """
    trust = ssl.create_default_context(cafile=only)
    for root in roots:
        if root.exists():
            trust.load_verify_locations(root)
    return as_tools_do(trust)


def as_tools_do(trust: ssl.SSLContext) -> ssl.SSLContext:
    """Takes authorities that name no key usage, which Python refuses since 3.13.

    Those that clusters and operators make for themselves often name none; kubectl, Docker and curl
    take them.
    """
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return trust
