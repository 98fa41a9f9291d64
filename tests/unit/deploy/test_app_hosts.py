import pytest

from moorage.deploy.addresses.addresses import Hosts

HOSTS = Hosts(base_domain="apps.example.com", scheme="https", port=None)


@pytest.mark.parametrize(
    ("port", "url"),
    [(None, "https://hello.apps.example.com"), (8443, "https://hello.apps.example.com:8443")],
)
def test_address_names_the_port_unless_it_is_the_schemes_own(port: int | None, url: str) -> None:
    assert Hosts(base_domain="apps.example.com", scheme="https", port=port).url("hello") == url


def test_name_leads_to_its_host_and_back() -> None:
    assert HOSTS.host("hello") == "hello.apps.example.com"
    assert HOSTS.unique_name(HOSTS.host("hello")) == "hello"


@pytest.mark.parametrize(
    "host",
    [
        *("", "hello", "apps.example.com", "hello.example.com", "a.b.apps.example.com"),
        *("hello.apps.example.com.", "hello.apps.example.com:8080", "hello.apps.example.org"),
    ],
)
def test_other_hosts_stand_for_no_project(host: str) -> None:
    assert HOSTS.unique_name(host) is None


def test_name_is_known_at_a_former_domain_as_well() -> None:
    hosts = Hosts(
        base_domain="new.example", scheme="https", port=None, former_domains=("old.example",)
    )
    assert hosts.host("hello") == "hello.new.example"
    assert hosts.former_hosts("hello") == ["hello.old.example"]
    assert hosts.unique_name("hello.old.example") == "hello"
    assert hosts.unique_name("hello.other.example") is None
