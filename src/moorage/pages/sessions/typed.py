"""What a person typed into a form that was not taken: shown again, so that it is not lost."""

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from moorage.errors import BodyTooLarge, MoorageError
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import TOKEN, Count, Form, own_form
from moorage.pages.sessions.sign_in import SIGNATURE_FIELDS

_NOT_TYPED = frozenset(
    {TOKEN, *SIGNATURE_FIELDS, "a_month", "confirmed", "earlier", "id", "kind", "without_export"}
)

_MAX_TEXTS = 50  # no form has as many

_TOO_LARGE = (
    "You were signed out, and nothing was changed. What you typed is too much to be shown here: go "
    "back in this browser to find it, sign in again in another tab, and send it once more."
)


def is_part(request: Request) -> bool:
    """Returns whether a script asks for a part of a page, which nobody sees as a page."""
    return "hx-request" in request.headers


def typed(form: Form) -> list[tuple[str, str]]:
    """Returns the texts of a form, each with a label; without what a page itself put there."""
    return [
        (name.replace("_", " ").capitalize(), text)
        for name, text in form.items()
        if text.strip() and name not in _NOT_TYPED
    ]


async def signed_out(
    request: Request, *, hosts: Collection[str], sign_in: str, count: Count
) -> Response:
    """Answers a form whose session has ended: with what was typed, if anything was.

    Without a session nobody's word is shown but what a page of ours sent; strangers, who may say
    that one did, can't have a long page made of thousands of fields, and are counted. Raises
    RateLimited.
    """
    await count(request)
    try:
        texts = typed(await own_form(request, hosts=hosts))
    except BodyTooLarge:
        return page("error.html", status=413, message=_TOO_LARGE, home=sign_in)
    except MoorageError:
        texts = []
    if not 0 < len(texts) <= _MAX_TEXTS:
        return RedirectResponse(sign_in, 303)
    return page("sessions/signed_out.html", status=401, typed=texts, sign_in=sign_in)
