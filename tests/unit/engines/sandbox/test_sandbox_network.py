"""Addresses, name servers and files of an app's network."""

import ipaddress
import sys
from pathlib import Path

import pytest

from moorage.engines.isolation import slots
from moorage.engines.isolation.bubblewrap import NAMES, etc_files, parse_servers, resolv_conf
from moorage.engines.isolation.network import host_batch, inner_batch, network_of
from moorage.engines.isolation.slots import NoSlotFree, slot_at

FOUR = "10.201.0.0/28"  # has four slots


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_DIRECTORY", tmp_path / "slots")
    monkeypatch.setattr(slots, "NETNS_DIRECTORY", tmp_path / "netns")
    monkeypatch.setattr(slots, "ROUTES", tmp_path / "route")
    (tmp_path / "netns").mkdir()
    routes(tmp_path)


def routes(tmp_path: Path, *networks: str, refused: str = "192.0.2.0/24") -> None:
    """The kernel's table of routes: addresses in hex, the last byte first (on most machines)."""
    lines = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    for network in map(ipaddress.IPv4Network, networks):
        address, mask = (
            f"{int.from_bytes(it.packed, sys.byteorder):08X}"
            for it in (network.network_address, network.netmask)
        )
        flags = "0200" if network == ipaddress.IPv4Network(refused) else "0001"
        lines.append(f"eth0\t{address}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0  ")
    (tmp_path / "route").write_text("\n".join(lines) + "\n")


def holder(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def test_lowest_number_is_given_first(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abc"]
    assert [slots.claim(FOUR, each).number for each in holders] == [0, 1, 2]
    slots.release(1, holders[1])
    assert slots.claim(FOUR, holder(tmp_path, "d")).number == 1


def test_wanted_number_is_kept_unless_another_has_it(tmp_path: Path) -> None:
    mine, other = holder(tmp_path, "mine"), holder(tmp_path, "other")
    assert slots.claim(FOUR, mine, wanted=3).number == 3
    assert slots.claim(FOUR, mine, wanted=3).number == 3
    assert slots.claim(FOUR, other, wanted=3).number == 0


def test_number_of_what_is_gone_is_given_again_when_no_other_is_left(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))
    holders[2].rmdir()
    assert slots.claim(FOUR, tmp_path / "late").number == 2


def test_number_with_a_network_left_is_not_given_again(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    holders[2].rmdir()
    (tmp_path / "netns" / "mo12ab-2").touch()
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))


def test_number_whose_addresses_the_machine_routes_is_somebody_elses(tmp_path: Path) -> None:
    """What made the network may have left no file, or one in a directory of its own."""
    everything, apps_and_more = "0.0.0.0/0", "10.0.0.0/8"
    routes(tmp_path, everything, apps_and_more, FOUR, "10.201.0.0/30", "10.201.0.9/32")
    assert slots.free(FOUR) == 2
    mine, other = holder(tmp_path, "mine"), holder(tmp_path, "other")
    assert slots.claim(FOUR, mine, wanted=2).number == 1
    assert slots.claim(FOUR, other).number == 3
    assert slots.free(FOUR) == 0
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))


def test_network_that_the_machine_refuses_is_nobodys(tmp_path: Path) -> None:
    """As a gateway has it refuse the addresses that no app has, maybe of a part of the subnet."""
    routes(tmp_path, "10.201.0.0/24", refused="10.201.0.0/24")
    assert slots.claim("10.201.0.0/16", holder(tmp_path, "a")).number == 0


def test_number_of_what_is_gone_is_not_given_again_while_it_is_routed(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    for gone in holders[2:]:
        gone.rmdir()
    routes(tmp_path, "10.201.0.8/30")
    assert slots.free(FOUR) == 1
    assert slots.claim(FOUR, holder(tmp_path, "late")).number == 3


def test_own_number_is_kept_with_its_network(tmp_path: Path) -> None:
    mine = holder(tmp_path, "mine")
    slots.claim(FOUR, mine, wanted=1)
    routes(tmp_path, "10.201.0.4/30")
    assert slots.claim(FOUR, mine, wanted=1).number == 1


def test_what_is_free_is_what_can_still_be_claimed(tmp_path: Path) -> None:
    assert slots.free(FOUR) == 4
    holders = [holder(tmp_path, name) for name in "abcd"]
    for left, each in zip((3, 2, 1, 0), holders, strict=True):
        slots.claim(FOUR, each)
        assert slots.free(FOUR) == left
    holders[2].rmdir()
    assert slots.free(FOUR) == 1
    slots.release(1, holders[1])
    assert slots.free(FOUR) >= 1


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
