"""What the proxy's rules cost for the worst that an app or a visitor may send."""

import ctypes
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.routing.haproxy_config import Api, ProxySettings, haproxy_config

CONFIG = haproxy_config(
    ProxySettings(
        run_dir=Path("run"),
        state_dir=Path("state"),
        base_domain="apps.harbour.example",
        former_domains=("apps.other.example",),
        https_port=8443,
        visitor_connections=100,
        api=Api(host="api.harbour.example", dial="127.0.0.1:8402"),
    )
)
RULES = re.compile(
    r"-m reg(?P<caseless> -i)? (\S+)|(?:map_reg|regsub)\(([^,]+),|replace-[a-z]+ \S+ '([^']+)'"
)
WORST_BYTES = 31 * 1024  # what fits into the proxy's buffer beside the rest of an answer
STEPS_A_BYTE = 8

CASELESS, NO_AUTO_POSSESS, NO_START_OPTIMIZE = 0x8, 0x4000, 0x10000
MATCH_LIMIT_REACHED = -47
_pcre = ctypes.CDLL("libpcre2-8.so.0")  # the one of the proxy


class Rule:
    """A regular expression as the proxy compiles it; it counts each step that it takes."""

    def __init__(self, pattern: str, *, caseless: bool) -> None:
        compile_, error, offset = _pcre.pcre2_compile_8, ctypes.c_int(), ctypes.c_size_t()
        compile_.restype = _pcre.pcre2_match_data_create_8.restype = ctypes.c_void_p
        _pcre.pcre2_match_context_create_8.restype = ctypes.c_void_p
        # Without shortcuts: what they skip in a search, they may scan again and again uncounted.
        options = NO_AUTO_POSSESS | NO_START_OPTIMIZE | (CASELESS if caseless else 0)
        text = pattern.encode()
        self._code = ctypes.c_void_p(
            compile_(
                text,
                ctypes.c_size_t(len(text)),
                options,
                ctypes.byref(error),
                ctypes.byref(offset),
                None,
            )
        )
        assert self._code.value, (pattern, error.value)
        self._context = ctypes.c_void_p(_pcre.pcre2_match_context_create_8(None))
        self._data = ctypes.c_void_p(_pcre.pcre2_match_data_create_8(4, None))

    def is_within(self, subject: bytes, steps: int) -> bool:
        _pcre.pcre2_set_match_limit_8(self._context, ctypes.c_uint32(steps))
        length, start = ctypes.c_size_t(len(subject)), ctypes.c_size_t(0)
        found = _pcre.pcre2_match_8(
            self._code, subject, length, start, 0, self._data, self._context
        )
        return bool(found != MATCH_LIMIT_REACHED)


def worst(pattern: str) -> Iterator[bytes]:
    """One part of the pattern, then one or two others over and over."""
    parts = sorted({*re.findall(r"[a-z]{2,}|[^\w\s\\]", pattern), " ", "a", "0", ""})
    for first, second, third in itertools.product(parts, repeat=3):
        if second or third:
            repeated = second + third
            yield (first + repeated * (WORST_BYTES // len(repeated) + 1)).encode()[:WORST_BYTES]


def rules(config: str) -> set[tuple[str, bool]]:
    found = set()
    for line in config.splitlines():
        matches = list(RULES.finditer(line))
        assert len(matches) == len(re.findall(r"reg\b|regsub|map_reg|replace-", line)), line
        for each in matches:
            found.add((next(filter(None, each.groups()[1:])), bool(each["caseless"])))
    return found


@pytest.mark.parametrize(("pattern", "caseless"), sorted(rules(CONFIG)))
def test_rule_takes_steps_in_proportion_to_its_input(pattern: str, *, caseless: bool) -> None:
    rule = Rule(pattern, caseless=caseless)
    slow = [it for it in worst(pattern) if not rule.is_within(it, STEPS_A_BYTE * WORST_BYTES)]
    assert slow == []


@pytest.mark.parametrize("pattern", [";[^;=]*domain[^;=]*=", "[a-z]+[a-z]+="])
def test_rule_that_starts_again_and_again_is_found(pattern: str) -> None:
    """Else the test above would show nothing."""
    rule = Rule(pattern, caseless=True)
    assert not all(rule.is_within(it, STEPS_A_BYTE * WORST_BYTES) for it in worst(pattern))
