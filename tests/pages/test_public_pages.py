"""What anybody sees without a session."""

import pytest
from browsing import NewVisitor, findings_of_axe, layout_shift

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_public_page_is_accessible(new_visitor: NewVisitor, theme: str) -> None:
    person = await new_visitor(theme=theme)
    page = await person.open("/")
    assert await findings_of_axe(page) == []
    assert await layout_shift(page) == 0
