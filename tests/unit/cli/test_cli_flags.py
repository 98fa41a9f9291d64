"""Flags and variables of an app; what the gateway says of a setting names its flag."""

import io
from pathlib import Path

import msgspec
import pytest

from moorage.cli.flags import AppFlags, VariableReader, in_cli_words, setting_flags
from moorage.cli.main import run
from moorage.planning import plan
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.projects import ChangeBody


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


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7_200), ("1d", 86_400)]
)
def test_time_until_sleep_has_a_unit_or_is_in_seconds(text: str, seconds: int) -> None:
    assert settings(AppFlags(sleep=text))["sleepAfterSeconds"] == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "1.5h", "10 m", "never", "١m"])
def test_what_is_no_time_until_sleep_is_refused(text: str) -> None:
    with pytest.raises(ClientMisconfigured, match="--sleep"):
        settings(AppFlags(sleep=text))


WITHOUT_A_FLAG = {"useBuildAI"}
"""The contract's, for clients that send it; no deploy goes otherwise by it."""


def settings(flags: AppFlags, *, stdin: bytes = b"") -> dict[str, object]:
    """What is sent for the flags."""
    sent = flags.settings(VariableReader({"SHELL_HAS": "it"}, io.BytesIO(stdin)))
    found: dict[str, object] = msgspec.to_builtins(sent)
    return found


def test_every_setting_of_the_gateway_has_a_flag() -> None:
    known = {field.encode_name for field in msgspec.structs.fields(plan.Settings)}
    assert {name for name, _ in setting_flags()} == known - WITHOUT_A_FLAG


@pytest.mark.parametrize("command", ["deploy", "plan"])
def test_every_flag_of_a_setting_is_one_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [flag for _, flag in setting_flags() if f" {flag} " not in shown] == []


def test_flags_are_sent_as_the_contract_names_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "schedules.json").write_text('[{"name": "a", "cron": "0 3 * * *", "path": "/"}]')
    flags = AppFlags(
        directory="apps/web",
        runtime="node:22",
        framework="next",
        dockerfile=True,
        install="npm ci",
        build="npm run build",
        build_dir="out",
        run="node .",
        port=8080,
        health_path="/up",
        volume=True,
        schedules=tmp_path / "schedules.json",
        env=["A=1=2", "SHELL_HAS", f"TOKEN=@{tmp_path}/token"],
        build_env=["NPM=-"],
    )
    assert settings(flags, stdin=b"piped\n") == {
        "directoryPath": "apps/web",
        "runtime": "node:22",
        "framework": "next",
        "hasDockerfile": True,
        "installCommand": "npm ci",
        "buildCommand": "npm run build",
        "buildDir": "out",
        "runCommand": "node .",
        "port": 8080,
        "healthPath": "/up",
        "volume": True,
        "schedules": [{"name": "a", "cron": "0 3 * * *", "path": "/"}],
        "runEnvs": {"A": "1=2", "SHELL_HAS": "it", "TOKEN": "s3cret"},
        "buildVars": {"NPM": "piped"},
    }


def test_what_no_flag_says_is_left_to_the_gateway() -> None:
    assert settings(AppFlags()) == {}
    assert msgspec.to_builtins(ChangeBody(volume=True)) == {"volume": True}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("settings.port: must be 1–65535", "--port: must be 1–65535"),
        (
            "set settings.directoryPath to the one to deploy, or settings.runCommand",
            "set --directory to the one to deploy, or --run",
        ),
        (
            "settings.runCommand (and installCommand, buildCommand if needed), or",
            "--run (and --install, --build if needed), or",
        ),
        (
            "settings.buildDir's place. Or settings.buildDir.",
            "--build-dir's place. Or --build-dir.",
        ),
        ("settings.runEnvs.A: must be text", "--env A: must be text"),
        ("settings.buildVars: must have", "--build-env: must have"),
        ("deploy with settings.volume: true, and", "deploy with --volume, and"),
        ("healthPath: must be a path", "--health-path: must be a path"),
        ("uniqueName: must be 4–32", "--name: must be 4–32"),
        ("X-Payment-Token: must be one of usdc", "--token: must be one of usdc"),
        ("POST …/domains adds one", "`moorage domains add` adds one"),
        ("POST …/verify looks at once", "`moorage domains verify` looks at once"),
        ("POST /agent/credits wakes it", "`moorage topup` wakes it"),
    ],
)
def test_sentences_of_the_gateway_are_shown_with_flags_and_commands(said: str, shown: str) -> None:
    assert in_cli_words(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "config/settings.port and settings.portal, app.settings.run",
        "settings.py has no settings.useBuildAI",
        "GET /agent/projects/{projectId}",
    ],
)
def test_other_words_stay(said: str) -> None:
    assert in_cli_words(said) == said
