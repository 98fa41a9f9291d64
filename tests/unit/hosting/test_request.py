import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.errors import InvalidField
from moorage.planning.plan import Settings
from moorage.records.project import MAX_ENTRIES, MAX_VALUE_BYTES
from moorage.uploads.request import COMMAND_LENGTH, DeployRequest, deploy_request

REQUIRED: dict[str, Any] = {"uniqueName": "hello", "displayName": "Hello"}
DEFAULTS = Settings(
    port=3000,
    runtime="build-ai",
    use_build_ai=True,
    build_command=None,
    run_command=None,
    install_command=None,
    framework=None,
    has_dockerfile=False,
    directory_path=None,
    build_dir=None,
    run_envs={},
    build_vars={},
    health_path=None,
)


def parsed(**fields: Any) -> DeployRequest:
    return deploy_request(REQUIRED | fields)


def settings(**fields: Any) -> Settings:
    return parsed(settings=fields).settings


def refused(document: dict[str, Any]) -> InvalidField:
    with pytest.raises(InvalidField) as error:
        deploy_request(document)
    return error.value


def test_defaults_are_the_contracts() -> None:
    assert deploy_request(REQUIRED) == DeployRequest(
        unique_name="hello", display_name="Hello", description=None, months=1, settings=DEFAULTS
    )


def test_null_is_as_if_left_out() -> None:
    nulls = dict.fromkeys(("description", "months", "settings"))
    assert parsed(**nulls) == parsed()
    assert settings(**dict.fromkeys(KNOWN)) == DEFAULTS


NO_TEXTS: list[object] = [7, True, [], {}]
NIGHTLY = {"name": "nightly", "cron": "0 3 * * *", "command": "./nightly"}
KNOWN = (
    *("port", "runtime", "useBuildAI", "buildCommand", "runCommand", "installCommand"),
    *("framework", "hasDockerfile", "directoryPath", "buildDir", "runEnvs", "buildVars"),
    *("healthPath", "size", "volume", "releaseCommand", "kind", "schedules"),  # ours
    "sleepAfterSeconds",
)


def test_every_setting_of_the_contract_is_taken_and_those_of_ours() -> None:
    given_settings = {
        "port": 8080,
        "runtime": "node:20",
        "useBuildAI": False,
        "buildCommand": "make",
        "runCommand": "./run",
        "installCommand": "make deps",
        "framework": "express",
        "hasDockerfile": True,
        "directoryPath": "app",
        "buildDir": "dist",
        "runEnvs": {"A": "1"},
        "buildVars": {"B": "2"},
        "healthPath": "/healthz",
        "size": "large",
        "volume": True,
        "releaseCommand": "make data",
        "kind": "worker",
        "schedules": [NIGHTLY],
        "sleepAfterSeconds": 600,
    }
    assert tuple(given_settings) == KNOWN
    taken = settings(**given_settings)
    assert msgspec.to_builtins(taken) == given_settings


def test_unknown_keys_at_the_top_are_told_and_have_no_effect() -> None:
    asked = parsed(colour="red", upload={"type": "zip"}, chain={})
    assert asked.unknown == ("colour", "chain")
    assert msgspec.structs.replace(asked, unknown=()) == parsed()
    many = parsed(**{f"colour{n}{'x' * 100}": n for n in range(50)})
    assert [len(key) for key in many.unknown] == [64] * 10


@pytest.mark.parametrize(
    ("key", "right"),
    [
        *(("volume", "settings.volume"), ("runEnvs", "settings.runEnvs")),
        *(("env", "settings.runEnvs"), ("month", "months"), ("name", "uniqueName")),
    ],
)
def test_keys_in_the_wrong_place_are_refused_with_the_right_one(key: str, right: str) -> None:
    error = refused(REQUIRED | {key: "x"})
    assert (error.field, right in error.message) == (key, True)


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("abcd", "abcd"),
        ("a" * 32, "a" * 32),
        ("My-App-2", "my-app-2"),
        ("1234", "1234"),
        ("a--b", "a--b"),
    ],
)
def test_names_are_dns_labels_in_lower_case(written: str, folded: str) -> None:
    assert parsed(uniqueName=written).unique_name == folded


@pytest.mark.parametrize(
    "name",
    [
        *("", "abc", "a" * 33, "-abc", "abc-", "----", "ab_c", "ab.c", "ab c", "abcd\n", " abcd"),
        *("abcd\0", "äbcd", "abc\u212a", "аbcd", "ａｂｃｄ", "ab%2Fc", "../..", "abcİ"),
        *(None, 1234, True, ["abcd"], {"a": 1}, 1.5),
    ],
)
def test_other_names_are_refused(name: object) -> None:
    assert refused(REQUIRED | {"uniqueName": name}).field == "uniqueName"


@pytest.mark.parametrize("field", ["uniqueName", "displayName"])
def test_required_fields_are_required(field: str) -> None:
    left = {key: value for key, value in REQUIRED.items() if key != field}
    error = refused(left)
    assert (error.field, "required" in error.message) == (field, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("displayName", "x"),
        ("displayName", "x" * 100),
        ("displayName", "🛶" * 100),  # characters, not bytes
        ("displayName", "Boote für alle 船"),
        ("description", ""),
        ("description", "y" * 2048),
        ("description", "two\nlines\tand\r\nmore"),
    ],
)
def test_texts_within_bounds_are_kept_as_they_are(field: str, value: str) -> None:
    request = parsed(**{field: value})
    assert value in (request.display_name, request.description)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("displayName", ""),
        ("displayName", "x" * 101),
        ("displayName", "a\0b"),
        ("displayName", "a\x1b[31m"),
        ("displayName", "a\x7f"),
        ("displayName", "a\x9b"),
        ("displayName", "a\ud800"),
        *(("displayName", other) for other in NO_TEXTS),
        ("displayName", None),
        ("description", "y" * 2049),
        ("description", "\0"),
        *(("description", other) for other in NO_TEXTS),
    ],
)
def test_texts_out_of_bounds_are_refused(field: str, value: object) -> None:
    assert refused(REQUIRED | {field: value}).field == field


@pytest.mark.parametrize(("given_months", "months"), [(1, 1), (24, 24), (2.0, 2), (24.0, 24)])
def test_months_are_a_whole_number(given_months: object, months: int) -> None:
    found = parsed(months=given_months).months
    assert (found, type(found)) == (months, int)


@pytest.mark.parametrize(
    "months",
    [
        *(0, 25, -1, 1.5, 0.0, -0.0, 24.000001, 1e300, 10**400, -(10**400)),
        *(math.inf, -math.inf, math.nan, True, False, "1", "", [], {}, [1]),
    ],
)
def test_other_months_are_refused(months: object) -> None:
    assert refused(REQUIRED | {"months": months}).field == "months"


@pytest.mark.parametrize("port", [1, 65_535])
def test_ports_within_bounds_are_taken(port: int) -> None:
    assert settings(port=port).port == port


@pytest.mark.parametrize(
    "port", [0, 65_536, -1, 10**400, 3000.5, math.inf, math.nan, True, "3000", [], {}]
)
def test_other_ports_are_refused(port: object) -> None:
    assert refused(REQUIRED | {"settings": {"port": port}}).field == "settings.port"


@pytest.mark.parametrize("value", [[], "x", 1, True, 1.5])
def test_settings_are_an_object(value: object) -> None:
    assert refused(REQUIRED | {"settings": value}).field == "settings"


@pytest.mark.parametrize(
    ("given_settings", "field"),
    [
        ({"color": "red"}, "settings.color"),
        ({"Port": 3000}, "settings.Port"),
        ({"run_command": "x"}, "settings.run_command"),
        ({"": 1}, "settings."),
        ({"k" * 100_000: 1}, f"settings.{'k' * 64}"),
        ({"useBuildAI": "yes"}, "settings.useBuildAI"),
        ({"hasDockerfile": 1}, "settings.hasDockerfile"),
        ({"runCommand": 7}, "settings.runCommand"),
        ({"runCommand": "a\0b"}, "settings.runCommand"),
        ({"buildCommand": "x" * (COMMAND_LENGTH + 1)}, "settings.buildCommand"),
        ({"installCommand": ["npm", "ci"]}, "settings.installCommand"),
        ({"framework": {}}, "settings.framework"),
        ({"runEnvs": []}, "settings.runEnvs"),
        ({"runEnvs": {"A": 1}}, "settings.runEnvs"),
        ({"runEnvs": {"A": None}}, "settings.runEnvs"),
        ({"runEnvs": {"A": {"B": "c"}}}, "settings.runEnvs"),
        ({"runEnvs": {"": "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"1A": "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"A=B": "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"Ä": "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"A\n": "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"A" * 129: "x"}}, "settings.runEnvs"),
        ({"runEnvs": {"A": "a\0"}}, "settings.runEnvs.A"),
        ({"runEnvs": {"A": "\ud800"}}, "settings.runEnvs.A"),
        ({"healthPath": ""}, "settings.healthPath"),
        ({"sleepAfterSeconds": 0}, "settings.sleepAfterSeconds"),
        ({"healthPath": "healthz"}, "settings.healthPath"),
        ({"healthPath": "/a b"}, "settings.healthPath"),
        ({"healthPath": "/a\r\nX: y"}, "settings.healthPath"),
        ({"healthPath": "/ä"}, "settings.healthPath"),
        ({"healthPath": "/" + "x" * 1024}, "settings.healthPath"),
        ({"healthPath": 7}, "settings.healthPath"),
        ({"size": "Large"}, "settings.size"),
        ({"size": "a" * 33}, "settings.size"),
        ({"buildVars": {"A": "ä" * (MAX_VALUE_BYTES // 2 + 1)}}, "settings.buildVars.A"),
        ({"buildVars": {f"A{n}": "" for n in range(MAX_ENTRIES + 1)}}, "settings.buildVars"),
    ],
)
def test_wrong_settings_are_refused_by_their_path(
    given_settings: dict[str, Any], field: str
) -> None:
    assert refused(REQUIRED | {"settings": given_settings}).field == field


def test_settings_at_their_bounds_are_taken() -> None:
    assert settings(runCommand="x" * COMMAND_LENGTH)
    assert settings(runEnvs={f"A{n}": "" for n in range(MAX_ENTRIES)})
    assert settings(runEnvs={"A" * 128: "ä" * (MAX_VALUE_BYTES // 2)})
    assert settings(healthPath="/" + "x" * 1023)
    assert settings(healthPath="/healthz?deep=1").health_path == "/healthz?deep=1"
    assert settings(runEnvs={"_a1": "$HOME\n'\"`"}).run_envs == {"_a1": "$HOME\n'\"`"}


FIELDS = {"uniqueName", "displayName", "description", "months", "settings"}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64])
    | st.floats()
    | st.text()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
SETTINGS = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), VALUES, max_size=5)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "uniqueName": st.from_regex(r"[a-z0-9-]{3,33}", fullmatch=True) | VALUES,
        "displayName": st.text(min_size=1, max_size=101) | VALUES,
        "description": VALUES,
        "months": st.integers(-1, 30) | VALUES,
        "settings": SETTINGS | VALUES,
        "other": VALUES,
    },
)


@given(DOCUMENTS)
@example(REQUIRED | {"months": math.inf})
@example(REQUIRED | {"months": math.nan})
def test_whatever_is_sent_is_taken_whole_or_refused_by_name(document: dict[str, Any]) -> None:
    request = taken_or_refused(document)
    if isinstance(request, InvalidField):
        assert request.field.split(".")[0] in FIELDS
        assert request.message.startswith(f"{request.field}: ")
        return
    assert 4 <= len(request.unique_name) <= 32
    assert request.unique_name.isascii()
    assert 1 <= request.months <= 24
    assert 1 <= request.settings.port <= 65_535
    msgspec.json.encode(request)


def taken_or_refused(document: dict[str, Any]) -> DeployRequest | InvalidField:
    try:
        return deploy_request(document)
    except InvalidField as error:
        return error
