"""Whom an image's app runs as, in numbers."""

import pytest

from moorage.engines.images.image import numeric_pair

PASSWD = "root:x:0:0::/root:/bin/sh\nnode:x:1001:1002::/home/node:/bin/sh\n"


@pytest.mark.parametrize(
    ("user", "pair"),
    [
        ("node", "1001:1002"),
        ("node:7", "1001:7"),
        ("node:staff", "1001:1002"),
        ("root", "0:0"),
        ("nobody", ""),
    ],
)
def test_named_user_is_that_of_the_images_passwd(user: str, pair: str) -> None:
    assert numeric_pair(user, PASSWD) == pair
