"""The Content-Disposition of a download: always an attachment, its name safe in a header [pure].

RFC 6266 gives two names: `filename` for clients that know ASCII only, and `filename*` (RFC 8187), which holds the
real one.
"""

import re
from typing import Final
from urllib.parse import quote

# RFC 8187 attr-char beyond letters and digits; `quote` keeps _ . - ~ by itself.
_ATTR_CHARS: Final = "!#$&+^`|"
# Besides what is no ASCII: quotes and what some clients unescape or take for a path.
_UNSAFE: Final = re.compile(r'[^ !#$&-.0-9:-@A-Z\[\]^-~]|[;"\\/%]', re.ASCII)


def attachment(name: str) -> str:
    """The header's value. `name` is what the file should be saved as, whatever it holds."""
    plain = _UNSAFE.sub("_", name).strip() or "file"
    if plain == name:
        return f'attachment; filename="{plain}"'
    encoded = quote(name.encode(errors="replace"), safe=_ATTR_CHARS)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
