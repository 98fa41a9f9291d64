"""Numbers in a request's query."""

from starlette.requests import Request

from moorage.errors import InvalidField

_MOST_DIGITS = 19  # of 2**63 - 1


def whole_number(request: Request, name: str, *, usual: int, least: int, most: int) -> int:
    """The number of that name, `usual` without one. Raises InvalidField."""
    text = request.query_params.get(name)
    if text is None:
        return usual
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not is_number or not least <= int(text) <= most:
        raise InvalidField(name, f"must be a whole number from {least} to {most}")
    return int(text)
