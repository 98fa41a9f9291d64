"""Addresses, name servers and files of an app's network."""

import pytest

from moorage.engines.isolation.bubblewrap import NAMES, etc_files, parse_servers, resolv_conf
from moorage.engines.isolation.network import host_batch, inner_batch, network_of
from moorage.engines.isolation.slots import NoSlotFree, slot_at

SUBNET = "10.201.0.0/16"


def test_slots_are_blocks_of_four_addresses() -> None:
    assert (slot_at(SUBNET, 0).host_address, slot_at(SUBNET, 0).app_address) == (
        "10.201.0.1",
        "10.201.0.2",
    )
    assert slot_at(SUBNET, 64).app_address == "10.201.1.2"
    assert slot_at(SUBNET, 16_383).app_address == "10.201.255.254"


@pytest.mark.parametrize("number", [-1, 16_384])
def test_slot_beyond_the_subnet_is_refused(number: int) -> None:
    with pytest.raises(NoSlotFree):
        slot_at(SUBNET, number)


def test_no_two_users_of_any_slots_are_the_same() -> None:
    slots = [slot_at(SUBNET, number) for number in range(16_384)]
    uids = [uid for slot in slots for uid in (slot.app_uid, slot.proxy_uid)]
    assert len(set(uids)) == 2 * 16_384
    assert min(uids) >= 1_879_048_192  # systemd's table: unused from here …
    assert max(uids) <= 2_147_483_647  # … to here


def test_network_is_made_in_two_batches() -> None:
    network = network_of("ab12cd", slot_at(SUBNET, 1))
    assert network.name == "moab12cd-1"
    assert host_batch(network) == (
        "netns add moab12cd-1\n"
        "link add moab12cd-1 type veth peer name eth0 netns moab12cd-1\n"
        "link set moab12cd-1 addrgenmode none\n"
        "address add 10.201.0.5/30 dev moab12cd-1\n"
        "link set moab12cd-1 up\n"
    )
    assert inner_batch(network) == (
        "link set lo up\n"
        "address add 10.201.0.6/30 dev eth0\n"
        "link set eth0 addrgenmode none\n"
        "link set eth0 up\n"
        "route add default via 10.201.0.5\n"
    )


def test_interface_name_is_never_longer_than_the_kernel_takes() -> None:
    assert len(network_of("ffffff", slot_at(SUBNET, 16_383)).name) <= 15


def test_only_reachable_name_servers_are_used() -> None:
    text = (
        "# comment\nnameserver 127.0.0.53\nnameserver 10.255.255.53\nnameserver fe80::1%eth0\n"
        "search example.com\nnameserver 192.0.2.1\nnameserver 10.255.255.53\n"
        "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"
    )
    assert parse_servers(text) == ("10.255.255.53", "192.0.2.1", "1.1.1.1")


def test_stub_on_loopback_is_no_name_server() -> None:
    assert parse_servers("nameserver 127.0.0.53\noptions edns0\nnameserver ::1\n") == ()


def test_malformed_line_is_passed_over() -> None:
    assert parse_servers("nameserver\nnameserver nonsense\nnameserver 1.1.1.1\n") == ("1.1.1.1",)


def test_app_gets_files_of_its_own() -> None:
    files = etc_files(slot_at(SUBNET, 1), ("10.255.255.53",))
    assert tuple(sorted(files)) == NAMES
    assert files["passwd"] == "app:x:1900000002:1900000002:app:/home/app:/bin/sh\n"
    assert files["resolv.conf"] == "nameserver 10.255.255.53\n" == resolv_conf(("10.255.255.53",))
    assert "10.201.0.6 app\n" in files["hosts"]
