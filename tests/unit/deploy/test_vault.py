"""The vault: what was sealed opens again, for its project, under its key, and unchanged."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import VariablesUnreadable
from moorage.records.project import Variables
from moorage.storage.vault import MARK_LENGTH, Vault

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
