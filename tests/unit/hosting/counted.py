"""A backtracking matcher that counts its steps, over the tree that `re.DEBUG` prints of a pattern.

Time says little on a busy machine, and `re` counts nothing. A step is a node that is tried at a
place, or a character that a repeat takes; `re` skips more, and never does more.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

_WORD = re.compile(r"\w")
_MANY = 1 << 30


class Node(NamedTuple):
    """A line of the tree, and what is indented below it; a branch has one list a choice."""

    name: str
    words: list[str]
    inner: list[list["Node"]]


def tree(pattern: str) -> list[Node]:
    """Returns the nodes of a pattern of re.MULTILINE."""
    printed = io.StringIO()
    re.purge()  # a pattern that is cached prints nothing
    with contextlib.redirect_stdout(printed):
        re.compile(pattern, re.MULTILINE | re.DEBUG)
    lines = printed.getvalue().partition("\n\n")[0].splitlines()
    return _nodes([(len(line) - len(line.lstrip()), line.split()) for line in lines])


def _nodes(lines: list[tuple[int, list[str]]]) -> list[Node]:
    found: list[Node] = []
    depth = lines[0][0] if lines else 0
    at = 0
    while at < len(lines):
        words = lines[at][1]
        end = at + 1
        while end < len(lines) and lines[end][0] > depth:
            end += 1
        inner = _nodes(lines[at + 1 : end])
        if words[0] == "OR":
            found[-1].inner.append(inner)
        else:
            found.append(Node(words[0], words[1:], [inner]))
        at = end
    return found


class Counter:
    """Searches a text for a pattern as `finditer` does, and counts."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._text = ""
        self._taken: dict[tuple[int, str], bool] = {}  # by the node's identity, and a character
        self.steps = 0

    def search(self, text: str) -> int:
        """Returns the steps that all places of the text take."""
        self._text, self.steps = text, 0
        place = 0
        while place <= len(text):
            end = self._ends(self._nodes, 0, place, lambda at: at)
            place = place + 1 if end is None or end <= place else end
        return self.steps

    def _ends(
        self, nodes: list[Node], index: int, at: int, then: Callable[[int], int | None]
    ) -> int | None:
        """Returns where a match ends of the nodes from an index on, and of what is to follow."""
        while index < len(nodes):
            self.steps += 1
            node = nodes[index]
            if node.name not in _SINGLE and node.name != "AT":
                return self._group(node, at, partial(self._ends, nodes, index + 1, then=then))
            if node.name == "AT":
                if not self._is_at(node.words[0], at):
                    return None
            elif at >= len(self._text) or not self._takes(node, self._text[at]):
                return None
            else:
                at += 1
            index += 1
        return then(at)

    def _takes(self, node: Node, character: str) -> bool:
        key = id(node), character
        if key not in self._taken:
            self._taken[key] = takes(node, character)
        return self._taken[key]

    def _is_at(self, what: str, at: int) -> bool:
        text = self._text
        if what == "AT_BEGINNING":
            return at == 0 or text[at - 1] == "\n"
        if what in ("AT_END", "AT_END_STRING"):
            return at == len(text) or (what == "AT_END" and text[at] == "\n")
        assert what == "AT_BOUNDARY", what
        before, after = text[max(at - 1, 0) : at], text[at : at + 1]
        return bool(_WORD.match(before)) is not bool(_WORD.match(after))

    def _group(self, node: Node, at: int, then: Callable[[int], int | None]) -> int | None:
        match node.name:
            case "SUBPATTERN":
                return self._ends(node.inner[0], 0, at, then)
            case "BRANCH":
                ends = (self._ends(choice, 0, at, then) for choice in node.inner)
                return next((end for end in ends if end is not None), None)
            case "ASSERT" | "ASSERT_NOT":
                begin = at - len(node.inner[0]) if node.words == ["-1"] else at
                found = None if begin < 0 else self._ends(node.inner[0], 0, begin, lambda end: end)
                return then(at) if (found is None) is (node.name == "ASSERT_NOT") else None
            case "ATOMIC_GROUP":
                found = self._ends(node.inner[0], 0, at, lambda end: end)
                return None if found is None else then(found)
        return self._repeat(node, at, then)

    def _repeat(self, node: Node, at: int, then: Callable[[int], int | None]) -> int | None:
        least, most = int(node.words[0]), bound(node)
        (body,) = node.inner
        if len(body) == 1 and body[0].name in _SINGLE:
            return self._characters(node.name, body[0], at, (least, most), then)
        if node.name == "POSSESSIVE_REPEAT":
            count = 0
            while count < most and (end := self._ends(body, 0, at, lambda end: end)) is not None:
                count, at = count + 1, end
            return then(at) if count >= least else None
        return self._times(body, at, (least, most), then, is_lazy=node.name == "MIN_REPEAT")

    def _characters(
        self,
        name: str,
        node: Node,
        at: int,
        counts: tuple[int, int],
        then: Callable[[int], int | None],
    ) -> int | None:
        least, most = counts
        end, last = at, min(len(self._text), at + most)
        while end < last and self._takes(node, self._text[end]):
            end += 1
        places = range(end, at + least - 1, -1)
        if name == "MIN_REPEAT":
            places = places[::-1]
        else:
            self.steps += end - at
        if name == "POSSESSIVE_REPEAT":
            places = places[:1]
        for place in places:
            self.steps += 1
            found = then(place)
            if found is not None:
                return found
        return None

    def _times(
        self,
        body: list[Node],
        at: int,
        counts: tuple[int, int],
        then: Callable[[int], int | None],
        *,
        is_lazy: bool,
    ) -> int | None:
        least, most = counts

        def again(count: int, at: int) -> int | None:
            def more() -> int | None:
                if count >= most:
                    return None
                return self._ends(
                    body, 0, at, lambda end: again(count + 1, end) if end > at else None
                )

            def enough() -> int | None:
                return then(at) if count >= least else None

            first, second = (enough, more) if is_lazy else (more, enough)
            found = first()
            return second() if found is None else found

        return again(0, at)


_SINGLE = ("LITERAL", "NOT_LITERAL", "ANY", "IN")


def bound(node: Node) -> int:
    """Returns how often a repeat may take its body."""
    return _MANY if node.words[1] == "MAXREPEAT" else int(node.words[1])


def takes(node: Node, character: str) -> bool:
    """Whether a node of one character takes this one."""
    match node.name:
        case "LITERAL":
            return ord(character) == int(node.words[0])
        case "NOT_LITERAL":
            return ord(character) != int(node.words[0])
        case "ANY":
            return character != "\n"
    is_negated = node.inner[0][0].name == "NEGATE"
    return any(_is_in(each, character) for each in node.inner[0]) is not is_negated


def _is_in(node: Node, character: str) -> bool:
    match node.name:
        case "LITERAL":
            return ord(character) == int(node.words[0])
        case "RANGE":
            low, high = (int(word.strip("(),")) for word in node.words)
            return low <= ord(character) <= high
        case "CATEGORY":
            return _CATEGORIES[node.words[0]].match(character) is not None
    return False


_CATEGORIES = {
    "CATEGORY_WORD": _WORD,
    "CATEGORY_NOT_WORD": re.compile(r"\W"),
    "CATEGORY_DIGIT": re.compile(r"\d"),
    "CATEGORY_NOT_DIGIT": re.compile(r"\D"),
    "CATEGORY_SPACE": re.compile(r"\s"),
    "CATEGORY_NOT_SPACE": re.compile(r"\S"),
}
_TRIED = "a0 x._-/:\"'@=1\n\t"


def shortest(nodes: list[Node]) -> str:
    """Returns a short text that the nodes take, as far as their first choices do."""
    return "".join(map(_one, nodes))


def _one(node: Node) -> str:
    match node.name:
        case "LITERAL":
            return chr(int(node.words[0]))
        case "NOT_LITERAL" | "ANY" | "IN":
            named = [chr(int(it.words[0])) for it in node.inner[0] if it.name == "LITERAL"]
            return next((c for c in (*_TRIED, *named) if takes(node, c)), "~")
        case "SUBPATTERN" | "BRANCH" | "ATOMIC_GROUP":
            return shortest(node.inner[0])
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return shortest(node.inner[0]) if (node.name, node.words) == ("ASSERT", ["-1"]) else ""
    return shortest(node.inner[0]) * int(node.words[0])


def hostile(nodes: list[Node], size: int) -> Iterator[str]:
    """Yields texts of a size that begin to match again and again, and never end well.

    One for each repeat: what comes before it, then as much as it takes.
    """
    for before, body in _repeats(nodes, ""):
        piece = shortest(body) or "a"
        once = before + piece * min(300, size)
        yield (once * size)[:size]
        yield (before + piece * size)[:size]


def _repeats(nodes: list[Node], before: str) -> Iterator[tuple[str, list[Node]]]:
    for node in nodes:
        if node.name.endswith("_REPEAT"):
            yield before, node.inner[0]
        if node.name not in _SINGLE:
            for choice in node.inner:
                yield from _repeats(choice, before)
        before += _one(node)
