"""The page that shows the published document to people: Swagger UI, whose files come with a pinned package.

Nothing is fetched from outside, so it works without the internet and tells nobody who reads it. The files' address
holds a digest of all of them: it changes with the package, so browsers may keep them for good.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["CONTENT_POLICY", "Page", "Piece", "docs_page"]

# Scripts and styles are files; the pictures within the styles are addresses that hold them.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PACKAGE: Final = "swagger_ui_bundle"
_FILES: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_STARTER: Final = "start.js"
_HTML: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fleetwire API</title>
<link rel="icon" href="{base}/favicon-32x32.png">
<link rel="stylesheet" href="{base}/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<noscript><p>The page needs JavaScript; the document itself is <a href="{document}">here</a>.</p></noscript>
<script src="{base}/swagger-ui-bundle.js"></script>
<script src="{base}/start.js"></script>
</body>
</html>
"""


class Piece(NamedTuple):
    """One file of the page."""

    content: bytes
    media_type: str


class Page(NamedTuple):
    """The page, and its files by their names under `/docs/{digest}/`."""

    html: Piece
    digest: str
    files: Mapping[str, Piece]


def docs_page(document_path: str) -> Page | None:
    """The page for the document at this path; None where the package is not installed."""
    folder = _folder()
    if folder is None:
        return None
    files = {name: Piece((folder / name).read_bytes(), media_type) for name, media_type in _FILES.items()}
    files[_STARTER] = Piece(_starter(document_path), "text/javascript; charset=utf-8")
    digest = sha256(b"".join(piece.content for piece in files.values())).hexdigest()[:16]
    html = _HTML.format(base=f"/docs/{digest}", document=document_path)
    return Page(Piece(html.encode(), "text/html; charset=utf-8"), digest, files)


def _starter(document_path: str) -> bytes:
    # Tokens are not kept by the browser, and no validator elsewhere is asked.
    options = {
        "url": document_path,
        "dom_id": "#page",
        "deepLinking": True,
        "docExpansion": "none",
        "defaultModelsExpandDepth": 0,
        "persistAuthorization": False,
        "validatorUrl": "none",
    }
    return f"window.ui = SwaggerUIBundle({json.dumps(options)});\n".encode()


def _folder() -> Path | None:
    """Where the package keeps Swagger UI. It is not imported: only its files are wanted."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent / "vendor").glob("swagger-ui-*"))
    return found[-1] if found else None
