from pathlib import Path

from support.gateway.gateway_fixture import DevGateway


def test_log_is_read_while_a_character_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "gateway.log").write_bytes("no room … left".encode()[:9])  # "…" has three bytes
    assert DevGateway(tmp_path).log == "no room \N{REPLACEMENT CHARACTER}"
