"""The page's own files: read once, served under a digest of all of them, so that browsers may keep them for good.

Nothing comes from elsewhere and nothing is built. The policy allows scripts and styles of this origin only, none that
stand in the page, and no text that becomes markup.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["CONTENT_POLICY", "Piece", "Shell", "read_shell"]

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_BASE: Final = b"{base}"


class Piece(NamedTuple):
    """One file."""

    content: bytes
    media_type: str


class Shell(NamedTuple):
    """The page, and its files by their names under `/dashboard/{digest}/`."""

    html: Piece
    digest: str
    files: Mapping[str, Piece]


def read_shell(folder: Path = _FOLDER) -> Shell:
    """The page as it lies there."""
    files = {
        file.name: Piece(file.read_bytes(), _TYPES[file.suffix])
        for file in sorted(folder.iterdir())
        if file.suffix in _TYPES
    }
    html = (folder / "index.html").read_bytes()
    digest = sha256(html + b"".join(name.encode() + piece.content for name, piece in files.items())).hexdigest()[:16]
    html = html.replace(_BASE, f"/dashboard/{digest}".encode())
    return Shell(Piece(html, "text/html; charset=utf-8"), digest, files)
