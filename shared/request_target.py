"""The target of an HTTP request in its usual form [pure].

A client that takes us for a proxy sends the whole address (absolute-form, RFC 9112, section 3.2.2). A server must take
that, too, and the host in it goes before the one in the Host header.
"""

__all__ = ["in_origin_form"]


def in_origin_form(raw_path: bytes) -> tuple[bytes, bytes | None]:
    """The path, and the authority if the target named one. `raw_path` is the target without its query."""
    scheme, mark, rest = raw_path.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return raw_path, None
    authority, slash, path = rest.partition(b"/")
    return slash + path or b"/", authority
