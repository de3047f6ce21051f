import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker.handlers.webp_header import webp_size


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["VP8", "VP8L", "VP8X"])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (1025, 770)])
def test_the_size_is_read_from_every_kind_of_header(options: dict[str, Any], size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "WEBP", **options)
    assert webp_size(buffer.getvalue()[:4096]) == size


@given(st.binary(max_size=40))
def test_what_is_no_webp_has_no_size(data: bytes) -> None:
    assert webp_size(data) is None
    assert webp_size(b"RIFF\0\0\0\0WEBPJUNK" + data) is None
