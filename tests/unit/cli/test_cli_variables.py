"""How commands read values of variables, so that secrets need not be typed."""

import io
from pathlib import Path

import pytest

from moorage.cli.flags import VariableReader
from moorage.sdk.errors import ClientMisconfigured


def values(*texts: str, stdin: bytes = b"", **environment: str) -> dict[str, str]:
    return VariableReader(environment, io.BytesIO(stdin)).read(texts)


def test_value_is_all_behind_the_first_equals_sign() -> None:
    assert values("A=b=c", "B=", "C= $x 'y' ") == {"A": "b=c", "B": "", "C": " $x 'y' "}


def test_name_alone_is_taken_from_the_environment() -> None:
    assert values("TOKEN", TOKEN="@from=here") == {"TOKEN": "@from=here"}
    with pytest.raises(ClientMisconfigured, match="TOKEN"):
        values("TOKEN")


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"s\n", "s"), (b"s\r\n", "s"), (b"s", "s"), (b"a\nb\n\n", "a\nb\n"), (b"", "")],
)
def test_file_and_standard_input_lose_the_last_lines_end_alone(
    tmp_path: Path, content: bytes, value: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert values(f"A=@{tmp_path}/secret") == {"A": value}
    assert values("A=-", stdin=content) == {"A": value}


def test_what_cannot_be_read_is_named_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xffhunter2")
    for text in (f"A=@{tmp_path}/nothing", f"A=@{tmp_path}/binary"):
        with pytest.raises(ClientMisconfigured, match="A: ") as refused:
            values(text)
        assert "hunter2" not in refused.value.message


def test_standard_input_is_the_value_of_one_variable() -> None:
    reader = VariableReader({}, io.BytesIO(b"s\n"))
    assert reader.read(["A=-"], of="--env") == {"A": "s"}
    with pytest.raises(ClientMisconfigured, match="--build-env B: --env A has taken"):
        reader.read(["B=-"], of="--build-env")
