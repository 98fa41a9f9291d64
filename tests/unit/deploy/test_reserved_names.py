"""Names that nobody gets, as the threats name them."""

import pytest

from moorage.deploy.addresses.addresses import RESERVED_NAMES, is_reserved
from moorage.uploads.request import deploy_request

ASKED_FOR = (
    "mail wpad mta-sts admin autodiscover autoconfig isatap localhost smtp imap webmail postmaster "
    "hostmaster security abuse status login account www api ftp ns1 ns12 mail2 mx-1 www3 "
    "xn--pypal-4ve"
)


@pytest.mark.parametrize("name", ASKED_FOR.split())
def test_name_that_programs_or_people_take_for_the_domains_own_is_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["shop", "mailing", "my-admin", "ns-monitor", "wpads", "www-shop"])
def test_name_that_is_only_like_one_is_not(name: str) -> None:
    assert not is_reserved(name)


def test_gateways_own_name_is_reserved() -> None:
    assert is_reserved("harbour", own="harbour")
    assert not is_reserved("harbour", own="quay")
    assert not is_reserved("harbour")


@pytest.mark.parametrize("name", ["_dmarc", "_acme-challenge", "_moorage", "a_bcd"])
def test_name_with_an_underscore_is_no_name_at_all(name: str) -> None:
    with pytest.raises(Exception, match="must be 4–32"):
        deploy_request({"uniqueName": name, "displayName": "x"})


def test_reserved_names_are_written_as_names_are() -> None:
    assert {name for name in RESERVED_NAMES if name != name.lower() or not name.strip("-")} == set()
