"""What `moorage dev` says to type next."""

from pathlib import Path

import pytest

from moorage.cli.operator.gateway import next_command

HERE = Path("/clone")


@pytest.mark.parametrize(
    ("program", "data_dir", "command"),
    [
        (
            ".venv/bin/moorage",
            HERE / ".moorage",
            ".venv/bin/moorage deploy examples/hello-node --name hello",
        ),
        (
            HERE / ".venv/bin/moorage",
            HERE / "two words",
            ".venv/bin/moorage deploy examples/hello-node --name hello --data-dir 'two words'",
        ),
        (
            "/usr/bin/moorage",
            "/elsewhere",
            "/usr/bin/moorage deploy examples/hello-node --name hello --data-dir /elsewhere",
        ),
    ],
    ids=["usual", "elsewhere in here", "elsewhere"],
)
def test_next_command_finds_the_gateway_that_names_it(
    program: str, data_dir: str, command: str
) -> None:
    assert next_command(Path(program), data_dir=Path(data_dir), here=HERE) == command
