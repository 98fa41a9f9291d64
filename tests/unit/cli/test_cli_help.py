"""What `moorage COMMAND --help` shows."""

import pytest

from moorage.cli.help import default_text, unwrapped
from moorage.cli.main import all_commands, run


def test_paragraphs_and_parameters_are_a_line_each() -> None:
    docstring = """Deploy an app.

    The price is shown before
    it is paid.

    And so on.

    Parameters
    ----------
    name
        Its name, which is
        unique.
    port
        The port.
    """
    assert unwrapped(docstring).splitlines() == [
        "Deploy an app.",
        "",
        "The price is shown before it is paid.",
        "",
        "And so on.",
        "",
        "Parameters",
        "----------",
        "name",
        "    Its name, which is unique.",
        "port",
        "    The port.",
    ]


@pytest.mark.parametrize(
    ("default", "text"),
    [
        (None, None),
        ("", None),
        ((), None),
        (False, None),
        (True, "yes"),
        (0, "0"),
        ("usdc", "usdc"),
    ],
)
def test_default_that_says_nothing_is_left_out(default: object, text: str | None) -> None:
    assert default_text(default) == text


def test_operators_commands_stand_below_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["operator", "--help"]) == 0
    listed = capsys.readouterr().out
    of_operators = [name for each in all_commands() if (name := each.name).startswith("operator ")]
    assert all(f"  {name.partition(' ')[2]} " in listed for name in of_operators)
    assert run(["audit"]) == 2
    assert run(["operator"]) == 2


@pytest.mark.parametrize("command", [each.name for each in all_commands()])
def test_help_of_every_command_fits_and_names_no_default_that_is_none(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert run([*command.split(), "--help"]) == 0
    shown, complained = capsys.readouterr()
    assert shown.startswith(f"Usage: moorage {command} ")
    assert complained == ""
    assert all(len(line) <= 70 for line in shown.splitlines())
    for odd in ("[default: False]", '[default: ""]', "--empty-"):
        assert odd not in shown
