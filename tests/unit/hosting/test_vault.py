"""The vault: what was sealed opens again, for its project, under its key, and unchanged."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidField, VariablesUnreadable
from moorage.records.project import MAX_BYTES, MAX_ENTRIES, Variables
from moorage.storage.vault import MARK_LENGTH, Vault

PRESENT = Variables(build={"TOKEN": "b"}, run={"TOKEN": "r", "MODE": "slow"})


def test_changes_set_and_remove_and_leave_the_rest_alone() -> None:
    changed = PRESENT.changed(build={}, run={"MODE": None, "NEW": "1"})
    assert changed.run == {"TOKEN": "r", "NEW": "1"}
    assert changed.build == {"TOKEN": "b"}
    assert PRESENT.run == {"TOKEN": "r", "MODE": "slow"}


def test_build_and_run_are_apart() -> None:
    changed = PRESENT.changed(build={"TOKEN": None}, run={})
    assert (changed.build, changed.run["TOKEN"]) == ({}, "r")


def test_removing_what_is_not_there_changes_nothing() -> None:
    assert PRESENT.changed(build={}, run={"NONE": None}) == PRESENT


def test_secret_is_made_once_and_never_in_place_of_a_given_one() -> None:
    made = PRESENT.with_secrets(["APP_KEY", "MODE"])
    assert made.run["MODE"] == "slow"
    assert len(made.run["APP_KEY"]) == 32
    assert made.with_secrets(["APP_KEY"]) == made
    assert PRESENT.with_secrets(["APP_KEY"]) != made
    assert made.build == PRESENT.build


@pytest.mark.parametrize(
    "run",
    [
        {f"NAME_{n}": "x" for n in range(MAX_ENTRIES - 1)},
        {"NAME": "x" * (MAX_BYTES - len("NAME") - len("APP_KEY") - 32)},
    ],
)
def test_secrets_leave_a_project_within_the_limits_of_its_variables(run: dict[str, str]) -> None:
    made = Variables(run=run).with_secrets(["APP_KEY", "OTHER_SECRET"])
    assert made.run.keys() == {*run, "APP_KEY"}
    assert made.changed(build={}, run={}) == made


def test_port_is_never_a_variable_of_its_own() -> None:
    assert Variables().changed(build={"PORT": "1"}, run={"PORT": "3000"}) == Variables()


def test_as_many_as_allowed_and_no_more() -> None:
    full = Variables().changed(build={}, run={f"V{n}": "" for n in range(MAX_ENTRIES)})
    assert len(full.run) == MAX_ENTRIES == 200
    assert full.changed(build={}, run={"V0": None, "ANOTHER": ""})
    with pytest.raises(InvalidField) as refused:
        full.changed(build={}, run={"ANOTHER": ""}, field="settings.")
    assert refused.value.field == "settings.runEnvs"


def test_all_together_are_bounded_in_bytes_with_those_there_are() -> None:
    # 32 names of 2 bytes, and "é", which takes 2 bytes of UTF-8
    most = {f"V{n:x}".ljust(2, "_")[:3]: "é" for n in range(10)}
    name_bytes = sum(map(len, most))
    rest = {"REST": "x" * (524_288 - name_bytes - 20 - 4)}
    full = Variables().changed(build=most, run={}).changed(build=rest, run={})
    assert MAX_BYTES == 524_288
    with pytest.raises(InvalidField) as refused:
        full.changed(build={"A": ""}, run={})
    assert refused.value.field == "buildVars"


def test_no_text_shows_a_value() -> None:
    said = f"{PRESENT} {PRESENT!r}"
    assert "slow" not in said
    assert "TOKEN" in said


KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SECRETS = Variables(build={"NPM_TOKEN": "b"}, run={"DATABASE_URL": 'p$a"s\ns\u2713'})
VALUES = st.dictionaries(
    st.text("ABC_", min_size=1, max_size=4), st.text(st.characters(exclude_categories=["Cs"]))
)


@given(build=VALUES, run=VALUES)
def test_what_was_sealed_opens_as_it_was(build: dict[str, str], run: dict[str, str]) -> None:
    variables, vault = Variables(build=build, run=run), Vault([KEY])
    assert vault.open(vault.seal(variables, "p1"), "p1") == variables


def test_nothing_is_sealed_as_nothing() -> None:
    assert Vault([KEY]).seal(Variables(), "p1") == ""
    assert Vault([KEY]).open("", "p1") == Variables()


def test_sealed_text_tells_no_value_and_never_repeats() -> None:
    sealed = {Vault([KEY]).seal(SECRETS, "p1") for _ in range(50)}
    assert len(sealed) == 50
    assert not any("DATABASE" in text or "p$a" in text for text in sealed)


def test_sealed_text_is_aes_256_gcm_bound_to_the_project() -> None:
    content = urlsafe_b64decode(Vault([KEY]).seal(SECRETS, "p1")[MARK_LENGTH + 1 :])
    cipher = AES.new(KEY, AES.MODE_GCM, nonce=content[:12])
    cipher.update(b"v1:p1")
    plain = cipher.decrypt_and_verify(content[28:], content[12:28])
    assert b'"NPM_TOKEN":"b"' in plain


def test_another_projects_variables_do_not_open() -> None:
    vault = Vault([KEY])
    with pytest.raises(VariablesUnreadable):
        vault.open(vault.seal(SECRETS, "p1"), "p2")


def test_variables_under_another_key_do_not_open() -> None:
    sealed = Vault([KEY]).seal(SECRETS, "p1")
    assert not Vault([OTHER]).knows(sealed[:MARK_LENGTH])
    with pytest.raises(VariablesUnreadable):
        Vault([OTHER]).open(sealed, "p1")
    forged = Vault([OTHER]).mark + sealed[MARK_LENGTH:]
    with pytest.raises(VariablesUnreadable):
        Vault([OTHER]).open(forged, "p1")


def test_every_changed_byte_is_noticed() -> None:
    vault = Vault([KEY])
    sealed = vault.seal(SECRETS, "p1")
    mark, content = sealed[: MARK_LENGTH + 1], urlsafe_b64decode(sealed[MARK_LENGTH + 1 :])
    for place in range(len(content)):
        tampered = bytearray(content)
        tampered[place] ^= 1
        with pytest.raises(VariablesUnreadable):
            vault.open(mark + urlsafe_b64encode(bytes(tampered)).decode(), "p1")


@pytest.mark.parametrize("length", [0, 5, MARK_LENGTH, MARK_LENGTH + 1, 40])
def test_cut_text_is_unreadable(length: int) -> None:
    vault = Vault([KEY])
    cut = vault.seal(SECRETS, "p1")[:length]
    if cut:
        with pytest.raises(VariablesUnreadable):
            vault.open(cut, "p1")


def test_text_that_is_no_base64_is_unreadable() -> None:
    vault = Vault([KEY])
    with pytest.raises(VariablesUnreadable):
        vault.open(vault.mark + ".é!", "p1")


def test_an_older_key_opens_and_the_newest_seals() -> None:
    old = Vault([KEY]).seal(SECRETS, "p1")
    both = Vault([OTHER, KEY])
    assert both.open(old, "p1") == SECRETS
    assert both.knows(old[:MARK_LENGTH])
    assert Vault([OTHER]).open(both.seal(SECRETS, "p1"), "p1") == SECRETS


def test_webhooks_secret_opens_for_its_wallet_alone() -> None:
    vault = Vault([KEY])
    sealed = vault.seal_secret("whsec_c2VjcmV0", "0xa")
    assert vault.open_secret(sealed, "0xa") == "whsec_c2VjcmV0"
    assert "c2VjcmV0" not in sealed
    with pytest.raises(VariablesUnreadable):
        vault.open_secret(sealed, "0xb")
    with pytest.raises(VariablesUnreadable):
        vault.open(sealed, "0xa")  # nor as a project's variables
