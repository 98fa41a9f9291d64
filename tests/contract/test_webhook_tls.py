"""Webhooks over TLS: for a certificate of the very host, from an authority that is trusted."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

from support.gateway.receiver import receiving

POST_ALL = """
import asyncio, sys
from moorage.events.delivery import Destinations
from moorage.events.delivery import NotDelivered, Sender

async def resolve(host):
    return ["127.0.0.1"]

async def main(urls):
    sender = Sender(destinations=Destinations(allow=["127.0.0.0/8"]), resolve=resolve)
    for url in urls:
        try:
            print(await sender.post(url, headers={}, body=b"{}"))
        except NotDelivered as failure:
            print(failure)
    await sender.close()

asyncio.run(main(sys.argv[1:]))
"""


def make_certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """A certificate for `host` that is its own authority, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    made_as = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={host}"
    named = f"-addext subjectAltName=DNS:{host}"
    subprocess.run(
        ["openssl", "req", *made_as.split(), *named.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def post_trusting(certificate: Path, *urls: str) -> list[str]:
    """What a sender says of each URL on a machine whose one authority is `certificate`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        POST_ALL,
        *urls,
        env=os.environ | {"SSL_CERT_FILE": str(certificate)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    return out.decode().splitlines()


async def test_event_goes_to_the_certificates_host_and_to_no_other(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "hooks.example")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async with receiving(tls=tls) as receiver:
        valid, other = await post_trusting(
            certificate,
            f"https://hooks.example:{receiver.port}/",
            f"https://other.example:{receiver.port}/",
        )

    assert valid == "200"
    assert "TLS handshake failed" in other
    assert [headers["host"] for headers, _ in receiver.got] == [f"hooks.example:{receiver.port}"]


async def test_certificate_of_an_unknown_authority_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    known, _ = make_certificate(tmp_path / "known", "authority.example")
    certificate, key = make_certificate(tmp_path, "hooks.example")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async with receiving(tls=tls) as receiver:
        (said,) = await post_trusting(known, f"https://hooks.example:{receiver.port}/")

    assert "TLS handshake failed" in said
    assert receiver.got == []
