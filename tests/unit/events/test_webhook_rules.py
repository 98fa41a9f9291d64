"""Where webhooks may go, when they are tried again, and how they are signed."""

import base64
import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from moorage.errors import InvalidField
from moorage.events.delivery import Destinations, next_attempt_ms
from moorage.events.signature import new_secret, signed_headers
from support.gateway.clock import HOUR_MS, START_MS

HOURS = 3600


def attempts_after(created_ms: int, first_ms: int) -> list[int]:
    """Seconds between the attempts of a delivery whose first attempt is at `first_ms`."""
    at_ms, attempts = first_ms, 0
    pauses: list[int] = []
    while True:
        attempts += 1
        again_ms = next_attempt_ms(attempts=attempts, created_at_ms=created_ms, now_ms=at_ms)
        if again_ms is None:
            return pauses
        pauses.append((again_ms - at_ms) // 1000)
        at_ms = again_ms


def test_pauses_grow_from_seconds_to_half_a_day_over_three_days() -> None:
    assert attempts_after(START_MS, START_MS) == [
        *(10, 60, 5 * 60, 30 * 60, 2 * HOURS, 6 * HOURS),
        *(12 * HOURS,) * 5,  # until 68 h 36 min 10 s: another would be beyond 72 h
    ]


def test_delivery_that_waited_its_time_for_its_turn_has_one_attempt() -> None:
    assert attempts_after(START_MS, START_MS + 72 * HOUR_MS) == []


def test_delivery_that_waited_most_of_its_time_has_fewer_attempts() -> None:
    assert attempts_after(START_MS, START_MS + 71 * HOUR_MS) == [10, 60, 5 * 60, 30 * 60]


BODY = b'{"type":"credits.low","data":{"caf\xc3\xa9":1}}'


def test_signature_is_the_one_of_the_published_vector() -> None:
    # standard-webhooks, libraries: the test `sign function works`
    headers = signed_headers(
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_seconds=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def signed_now(secret: str) -> dict[str, str]:
    return signed_headers(
        secret=secret, message_id="evt_1", timestamp_seconds=int(time.time()), body=BODY
    )


def test_receivers_own_library_accepts_what_is_signed() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed_now(secret)) == json.loads(BODY)


def test_receivers_own_library_refuses_another_body_and_another_secret() -> None:
    secret = new_secret()
    headers = signed_now(secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_secret_is_fresh_and_as_long_as_the_specification_wants() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret[6:], validate=True)) <= 64


PUBLIC = ["1.1.1.1", "93.184.215.14", "100.63.255.255", "172.32.0.1", "2606:4700::1111",
          "::ffff:1.1.1.1", "64:ff9b::101:101"]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0",  # this host
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",  # carrier-grade NAT (RFC 6598)
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",  # link-local: metadata services
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",  # 6to4 relays
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",  # multicast
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # IPv4-compatible
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b::a00:1",
    "64:ff9b:1::1",  # NAT64 for local use (RFC 8215)
    "100::1",  # discard
    "2001::1",  # Teredo
    "2001:20::1",  # ORCHID
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "2002:101:101::1",
    "3fff::1",  # documentation (RFC 9637)
    "5f00::1",  # segment routing
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_by_https_alone(address: str) -> None:
    assert Destinations().permits(address, scheme="https")
    assert not Destinations().permits(address, scheme="http")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_never_reached(address: str) -> None:
    assert not Destinations().permits(address, scheme="https")
    assert not Destinations(allow=["10.9.9.0/24"]).permits(address, scheme="https")


def test_networks_of_apps_are_not_reached_even_if_public() -> None:
    ours = Destinations(deny=["1.1.0.0/16"])
    for address in ("1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::101:101"):
        assert not ours.permits(address, scheme="https")
    assert ours.permits("1.2.1.1", scheme="https")


def test_operator_allows_networks_by_either_scheme() -> None:
    dev = Destinations(allow=["127.0.0.0/8", "::1/128"])
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert dev.permits(address, scheme="http")
        assert dev.permits(address, scheme="https")
    assert not dev.permits("10.0.0.1", scheme="http")
    assert not dev.permits("1.1.1.1", scheme="http")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hooks/moorage?team=1",
        "https://sub-domain.example.co.uk:8443/",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/hook",
        "https://[2606:4700::1111]:444/",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_https_urls_of_names_and_public_addresses_are_taken(url: str) -> None:
    Destinations().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https:///hook",
        "https://",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/#part",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: other",
        "https://bücher.example/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://10.0.0.1:8443/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_other_urls_are_refused_when_they_are_given(url: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Destinations().check_url(url)
    assert refused.value.field == "url"


def test_plain_http_is_for_allowed_networks() -> None:
    dev = Destinations(allow=["127.0.0.0/8"])
    dev.check_url("http://127.0.0.1:9000/hook")
    dev.check_url("http://localhost:9000/hook")  # its addresses are checked at each attempt
    with pytest.raises(InvalidField):
        dev.check_url("http://10.0.0.1/")
    with pytest.raises(InvalidField):
        dev.check_url("http://1.1.1.1/")


def test_network_with_host_bits_is_a_mistake_of_the_operator() -> None:
    with pytest.raises(ValueError, match="host bits"):
        Destinations(allow=["127.0.0.1/8"])


def test_public_addresses_of_this_machine_are_not_reached_unless_allowed() -> None:
    own = {"93.184.215.14", "2606:4700::1111"}
    destinations = Destinations(is_own=own.__contains__)
    for address in (*own, "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"):
        assert not destinations.permits(address, scheme="https")
    assert destinations.permits("1.1.1.1", scheme="https")
    assert Destinations(allow=["93.184.215.14/32"], is_own=own.__contains__).permits(
        "93.184.215.14", scheme="https"
    )
