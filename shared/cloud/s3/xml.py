"""XML as S3 writes it [pure]: elements with text, and nothing else.

A document type is refused before anything in it is read, and with it entities, which could name files and addresses or
blow up a few bytes into gigabytes. Depth is bounded, size by whoever fetched it. Namespaces are dropped: stores that
speak like S3 use their own, or none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

__all__ = ["BadXml", "Element", "escaped", "parsed"]

_DEPTH_MAX: Final = 16


class BadXml(ValueError):
    """What came is no XML, or some that is not read here."""


@dataclass(slots=True)
class Element:
    """One element. `text` is what stands in it directly."""

    name: str
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def first(self, name: str) -> "Element | None":
        """The first child of that name."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator["Element"]:
        """All children of that name."""
        return (child for child in self.children if child.name == name)

    def value(self, name: str) -> str | None:
        """The text of the first child of that name; None without one."""
        child = self.first(name)
        return None if child is None else child.text


def parsed(raw: bytes) -> Element:
    """The outermost element. Raises BadXml."""
    stack = [Element("")]

    def began(name: str, _: dict[str, str]) -> None:
        if len(stack) > _DEPTH_MAX:
            raise BadXml("elements within elements, too deep")
        element = Element(name.rpartition(" ")[2])
        stack[-1].children.append(element)
        stack.append(element)

    def ended(_: str) -> None:
        stack.pop()

    def said(text: str) -> None:
        stack[-1].text += text

    def refused(*_: object) -> None:
        raise BadXml("a document type")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = began
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = said
    parser.StartDoctypeDeclHandler = refused
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, UnicodeDecodeError, LookupError) as error:
        raise BadXml(str(error)) from None
    return stack[0].children[0]


def escaped(text: str) -> str:
    """Text to stand in an element."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
