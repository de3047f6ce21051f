"""The two small languages of Google Drive's API: `q`, which files are meant, and `fields`, what is said of them."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from loadtests.emulators.drive_corpus import Corpus, DriveError, File

__all__ = ["Mask", "Query", "masked", "parse_mask", "parse_query"]

Test = Callable[[Corpus, File], bool]
Mask = dict[str, Any]
"""A field's name → the mask of what is in it; `*` is all. An empty mask is all of it."""

_TOKEN: Final = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|([()])|(!=|=|>=|<=|>|<)|([A-Za-z]+))", re.DOTALL)


def _bad_query() -> DriveError:
    return DriveError(400, "invalid", "Invalid Value", location="q")


class Query:
    """A parsed `q`. `parents` are the folders it asks about, if every answer must lie in one of them."""

    def __init__(self, test: Test, parents: set[str] | None) -> None:
        self.matches = test
        self.parents = parents


def parse_query(text: str) -> Query:
    """Raises DriveError for what cannot be read."""
    if not text.strip():
        return Query(lambda *_: True, None)
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad_query()
        quoted, bracket, operator, word = found.groups()
        if quoted is not None:
            tokens.append(("text", re.sub(r"\\(.)", r"\1", quoted)))
        else:
            tokens.append(("word" if word else "sign", word or bracket or operator))
        at = found.end()
    reader = _Reader(tokens)
    test, parents = reader.either()
    if reader.tokens:
        raise _bad_query()
    return Query(test, parents)


_Parsed = tuple[Test, set[str] | None]


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens[::-1]

    def _take(self, kind: str | None = None, value: str | None = None) -> str:
        if not self.tokens or (kind and self.tokens[-1][0] != kind) or (value and self.tokens[-1][1] != value):
            raise _bad_query()
        return self.tokens.pop()[1]

    def _next_is(self, value: str) -> bool:
        return bool(self.tokens) and self.tokens[-1] in (("word", value), ("sign", value))

    def either(self) -> _Parsed:
        test, parents = self.both()
        while self._next_is("or"):
            self._take()
            one, (two, others) = test, self.both()
            test = _or(one, two)
            parents = parents | others if parents is not None and others is not None else None
        return test, parents

    def both(self) -> _Parsed:
        test, parents = self.single()
        while self._next_is("and"):
            self._take()
            one, (two, others) = test, self.single()
            test = _and(one, two)
            if others is not None:
                parents = others if parents is None else parents & others
        return test, parents

    def single(self) -> _Parsed:
        if self._next_is("("):
            self._take()
            inner = self.either()
            self._take("sign", ")")
            return inner
        if self._next_is("not"):
            self._take()
            test, _ = self.single()
            return lambda corpus, file: not test(corpus, file), None
        if self.tokens and self.tokens[-1][0] == "text":
            wanted = self._take()
            self._take("word", "in")
            self._take("word", "parents")
            return lambda corpus, file: file.parent == (corpus.root if wanted == "root" else wanted), {wanted}
        return self._comparison(), None

    def _comparison(self) -> Test:
        field, operator = self._take("word"), self._take()
        value = self._take()
        match field, operator:
            case "name", "=":
                # Without regard to case: who wants one certain name has to compare.
                return lambda _, file: file.name.casefold() == value.casefold()
            case "name", "contains":
                return lambda _, file: file.name.casefold().startswith(value.casefold())
            case "mimeType", "=":
                return lambda _, file: file.mime == value
            case "mimeType", "!=":
                return lambda _, file: file.mime != value
            case "trashed", "=" if value in ("true", "false"):
                return lambda corpus, file: corpus.trashed(file) == (value == "true")
            case "modifiedTime", ">":
                return lambda corpus, file: corpus.clock.iso(file.modified) > value
            case "createdTime", ">=":
                since = _milliseconds(value)
                return lambda _, file: round(file.created * 1e6) // 1000 >= since
            case _:
                raise _bad_query()


def _milliseconds(value: str) -> int:
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    except ValueError:
        raise _bad_query() from None


def _and(one: Test, two: Test) -> Test:
    return lambda corpus, file: one(corpus, file) and two(corpus, file)


def _or(one: Test, two: Test) -> Test:
    return lambda corpus, file: one(corpus, file) or two(corpus, file)


def parse_mask(text: str) -> Mask:
    """`a,b(c,d/e),*` as a tree. Raises DriveError for what cannot be read."""
    rest = re.findall(r"[^,()/\s]+|[,()/]", text)[::-1]
    mask = _mask(rest)
    if rest:
        raise _bad_mask(text)
    return mask


def _bad_mask(text: str) -> DriveError:
    return DriveError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")


def _mask(rest: list[str]) -> Mask:
    mask: Mask = {}
    while rest and rest[-1] != ")":
        name = rest.pop()
        if name in ",(/":
            raise _bad_mask(name)
        below: Mask = {}
        if rest and rest[-1] == "/":
            rest.pop()
            inner = rest.pop() if rest else ""
            if not inner or inner in ",()/":
                raise _bad_mask(name)
            below = {inner: {}}
        elif rest and rest[-1] == "(":
            rest.pop()
            below = _mask(rest)
            if not rest or rest.pop() != ")":
                raise _bad_mask(name)
        mask.setdefault(name, {}).update(below)
        if rest and rest[-1] == ",":
            rest.pop()
    return mask


def masked(value: Any, mask: Mask) -> Any:
    """What the mask leaves of a JSON value."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [masked(one, mask) for one in value]
    if isinstance(value, dict):
        return {name: masked(one, mask[name]) for name, one in value.items() if name in mask}
    return value
