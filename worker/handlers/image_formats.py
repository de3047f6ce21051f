"""Which image format the first bytes are, by name, whatever the extension says. [pure]

Five are taken (JPEG, PNG, WebP, GIF, HEIC). The others are known so that the answer can name them: "Nikon NEF raw"
tells a driver what to change in the camera, "cannot be read" does not. Sources: the signatures in each format's
specification; raw formats built on TIFF differ only by extension, so there the name decides.
"""

from typing import Final, Literal

__all__ = ["RAW_EXTENSIONS", "Taken", "name_of_unsupported", "shown_format", "taken_format"]

Taken = Literal["JPEG", "PNG", "WEBP", "GIF", "HEIF"]

# The image coders of HEIF that are HEVC; `mif1` and `msf1` are the generic brands that phones write too.
_HEIC_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)

RAW_EXTENSIONS: Final = {
    ".3fr": "Hasselblad 3FR raw",
    ".arw": "Sony ARW raw",
    ".cr2": "Canon CR2 raw",
    ".cr3": "Canon CR3 raw",
    ".crw": "Canon CRW raw",
    ".dng": "Adobe DNG raw",
    ".erf": "Epson ERF raw",
    ".iiq": "Phase One IIQ raw",
    ".nef": "Nikon NEF raw",
    ".nrw": "Nikon NRW raw",
    ".orf": "Olympus ORF raw",
    ".pef": "Pentax PEF raw",
    ".raf": "Fujifilm RAF raw",
    ".rw2": "Panasonic RW2 raw",
    ".sr2": "Sony SR2 raw",
    ".srw": "Samsung SRW raw",
    ".x3f": "Sigma X3F raw",
}

_SIGNATURES: Final = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF raw"),
    (0, b"IIRO", "Olympus ORF raw"),
    (0, b"IIRS", "Olympus ORF raw"),
    (0, b"MMOR", "Olympus ORF raw"),
    (0, b"IIU\x00", "Panasonic RW2 raw"),
    (0, b"FOVb", "Sigma X3F raw"),
    (6, b"HEAPCCDR", "Canon CRW raw"),
    (4, b"ftypcrx ", "Canon CR3 raw"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypqt  ", "QuickTime video"),
    (4, b"ftypisom", "MP4 video"),
    (4, b"ftypmp42", "MP4 video"),
    (0, b"BM", "BMP"),
    (0, b"8BPS", "Photoshop PSD"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"%PDF-", "PDF"),
    (0, b"PK\x03\x04", "ZIP archive"),
)


def taken_format(head: bytes, name: str) -> Taken | None:
    """The format when it is one that is taken; raw files that carry a foreign signature are not."""
    if _extension(name) in RAW_EXTENSIONS and not head.startswith(b"\xff\xd8\xff"):
        return None
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head.startswith(b"WEBP", 8):
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and not _is_avif(head):
        return "HEIF"
    return None


def shown_format(form: Taken) -> str:
    """The format as people write it."""
    return {"HEIF": "HEIC", "WEBP": "WebP"}.get(form, form)


def name_of_unsupported(head: bytes, name: str) -> str | None:
    """The name of a known format that is not taken, or None when the bytes are no image format known here."""
    extension = _extension(name)
    if head[:4] in (b"II*\x00", b"MM\x00*"):
        if head[8:10] == b"CR":
            return "Canon CR2 raw"
        return RAW_EXTENSIONS.get(extension, "TIFF")
    if _is_avif(head):
        return "AVIF"
    for offset, signature, format_name in _SIGNATURES:
        if head.startswith(signature, offset):
            return format_name
    return RAW_EXTENSIONS.get(extension)


def _extension(name: str) -> str:
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""


def _is_avif(head: bytes) -> bool:
    """A generic HEIF brand whose compatible brands name AV1."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head), 256)
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
    return any(brand in (b"avif", b"avis") for brand in brands) and not any(
        brand in (b"heic", b"heix") for brand in brands
    )
