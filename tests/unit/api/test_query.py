import pytest
from starlette.requests import Request

from moorage.api.http.request import refuse_unknown
from moorage.errors import InvalidField

KNOWN = {"kind": "build or runtime", "tail": "how many"}


def asked(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


@pytest.mark.parametrize("query", ["", "kind=build", "tail=5&kind=build&kind=runtime"])
def test_known_keys_pass(query: str) -> None:
    refuse_unknown(asked(query), KNOWN)


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ("kinds=build", "kinds", "did you mean kind"),
        ("Kind=build", "Kind", "did you mean kind"),
        ("stream=err", "stream", "kind, tail"),
        ("kind=build&stream=err", "stream", "kind, tail"),
    ],
)
def test_unknown_key_is_refused_by_name_with_what_is_known(
    query: str, field: str, told: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        refuse_unknown(asked(query), KNOWN)
    assert refused.value.field == field
    assert told in refused.value.message


def test_path_without_a_query_says_so() -> None:
    with pytest.raises(InvalidField, match="takes no query"):
        refuse_unknown(asked("page=2"), {})


def test_long_key_is_cut() -> None:
    with pytest.raises(InvalidField) as refused:
        refuse_unknown(asked("k" * 4_000 + "=1"), KNOWN)
    assert len(refused.value.message) < 300


def test_long_query_is_refused_before_its_keys_are_looked_at() -> None:
    with pytest.raises(InvalidField, match="longer than 4096") as refused:
        refuse_unknown(asked("&".join(f"kind={n}" for n in range(2_000))), KNOWN)
    assert refused.value.field == "query"
