import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from worker.handlers.contract import Answer, Refusal, Task, TooLarge, Unreadable, Unsupported
from worker.handlers.photo import PhotoHandler


def run(path: Path, name: str | None = None, **options: Any) -> tuple[Answer, Path]:
    output = path.parent / f"out-{path.name}"
    output.mkdir(exist_ok=True)
    task = Task(name or path.name, path, output, {f"photo.{key}": value for key, value in options.items()})
    return PhotoHandler().run(task), output


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Red grows to the right, blue downwards, so that turning it shows."""
    red = Image.linear_gradient("L").rotate(90).resize((width, height))
    blue = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, Image.new("L", (width, height), 64), blue)).convert(mode)


def exif_block(orientation: int | None = None, *, position: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make] = "Acme\x00 "
    exif[Base.Model] = "C-1"
    exif[Base.Software] = "secret build 42"
    if orientation is not None:
        exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif).update(
        {Base.DateTimeOriginal: "2026:05:01 12:30:00", Base.FNumber: 2.8, Base.MakerNote: b"\x01" * 64}
    )
    if position:
        exif.get_ifd(IFD.GPSInfo).update(
            {
                GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.0, 30.0),
                GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (151.0, 12.0, 36.0),
            }
        )  # fmt: skip
    return exif


def test_a_large_jpeg_becomes_a_photo_a_thumbnail_and_metadata(tmp_path: Path) -> None:
    source = tmp_path / "load.jpg"
    gradient(4000, 3000).save(source, exif=exif_block())
    answer, output = run(source)
    assert answer.outcome == "processed"
    assert [file.name for file in answer.files] == ["photo.jpg", "thumbnail.jpg", "metadata.json"]
    with Image.open(output / "photo.jpg") as photo, Image.open(output / "thumbnail.jpg") as thumbnail:
        assert (photo.format, photo.size) == ("JPEG", (2048, 1536))
        assert thumbnail.size == (320, 240)
    metadata = json.loads((output / "metadata.json").read_text())
    assert (metadata["width"], metadata["height"], metadata["format"]) == (4000, 3000, "JPEG")
    assert metadata["exif"]["make"] == "Acme"
    assert metadata["exif"]["taken_at"] == "2026-05-01T12:30:00"
    assert answer.summary["photo"] == {"width": 2048, "height": 1536}


def test_a_small_photo_is_not_made_larger(tmp_path: Path) -> None:
    source = tmp_path / "small.png"
    gradient(100, 50).save(source)
    _, output = run(source)
    with Image.open(output / "photo.jpg") as photo:
        assert photo.size == (100, 50)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright_and_unmarked(tmp_path: Path, orientation: int) -> None:
    turned = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    upright = gradient(600, 400)
    stored = upright if turned is None else upright.transpose(turned)
    source = tmp_path / "turned.jpg"
    stored.save(source, quality=95, exif=exif_block(orientation))
    answer, output = run(source)
    with Image.open(output / "photo.jpg") as photo:
        assert photo.size == (600, 400)
        assert photo.getexif().get(Base.Orientation) in (None, 1)
        for place in ((10, 10), (590, 10), (10, 390), (590, 390)):
            want, got = upright.getpixel(place), photo.convert("RGB").getpixel(place)
            assert isinstance(want, tuple)
            assert isinstance(got, tuple)
            assert all(abs(a - b) < 30 for a, b in zip(want, got, strict=True))
    assert (answer.summary["width"], answer.summary["height"]) == (600, 400)


def test_heic_is_read(tmp_path: Path) -> None:
    source = tmp_path / "phone.heic"
    pillow_heif.from_pillow(gradient(3000, 1000)).save(source, quality=60, exif=exif_block(6).tobytes())
    answer, output = run(source)
    assert answer.summary["format"] == "HEIC"
    with Image.open(output / "photo.jpg") as photo:
        assert max(photo.size) == 2048
        assert photo.getexif().get(Base.Orientation) in (None, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic"])
def test_the_position_is_stripped_unless_the_policy_keeps_it(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"placed.{suffix}"
    block = exif_block(position=True)
    if suffix == "heic":
        pillow_heif.from_pillow(gradient(200, 100)).save(source, exif=block.tobytes())
    else:
        gradient(200, 100).save(source, exif=block)
    _, output = run(source)
    metadata = json.loads((output / "metadata.json").read_text())
    assert metadata["exif"]["position"] == "stripped"
    with Image.open(output / "photo.jpg") as photo:
        assert photo.getexif().get_ifd(IFD.GPSInfo) == {}
        assert Base.Software not in photo.getexif()
        assert Base.MakerNote not in photo.getexif().get_ifd(IFD.Exif)
    with Image.open(output / "thumbnail.jpg") as thumbnail:
        assert "exif" not in thumbnail.info

    _, output = run(source, position="keep")
    metadata = json.loads((output / "metadata.json").read_text())
    assert metadata["exif"]["position"] == {"latitude": -33.8583333, "longitude": 151.21}
    with Image.open(output / "photo.jpg") as photo:
        assert photo.getexif().get_ifd(IFD.GPSInfo)[GPS.GPSLatitudeRef] == "S"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_png_mode_comes_out_as_rgb(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "mode.png"
    image = Image.new("I;16", (64, 64), 32768) if mode == "I;16" else gradient(64, 64).convert(mode)
    image.save(source)
    _, output = run(source)
    with Image.open(output / "photo.jpg") as photo:
        assert photo.mode == "RGB"
        if mode == "I;16":
            level = photo.getpixel((5, 5))
            assert isinstance(level, tuple)
            assert 120 <= level[0] <= 136


def test_a_cmyk_jpeg_comes_out_as_rgb(tmp_path: Path) -> None:
    source = tmp_path / "print.jpg"
    gradient(64, 64, "CMYK").save(source)
    _, output = run(source)
    with Image.open(output / "photo.jpg") as photo:
        assert photo.mode == "RGB"


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    source = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(source)
    _, output = run(source)
    with Image.open(output / "photo.jpg") as photo:
        assert photo.getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic"])
def test_a_truncated_photo_is_unreadable_and_says_so(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    image = Image.effect_noise((600, 600), 80).convert("RGB")
    if suffix == "heic":
        pillow_heif.from_pillow(image).save(whole)
    else:
        image.save(whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(Unreadable, match=r"damaged|cut short") as caught:
        run(cut)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "a.jpg", "empty"),
        (b"hello, this is not an image at all", "a.jpg", "no known image format"),
        (b"\xff\xd8\xff\xe0" + b"\x00" * 50, "a.jpg", "JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "a.png", "PNG"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 50, "a.heic", "HEIC"),
    ],
)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes, name: str, words: str) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(Unreadable, match=words):
        run(source)


@pytest.mark.parametrize(
    ("content", "name", "form"),
    [
        (b"MM\x00*\x00\x00\x00\x08" + b"\x00" * 64, "DSC1.NEF", "Nikon NEF raw"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + b"\x00" * 64, "IMG.jpg", "Canon CR2 raw"),
        (b"\x00\x00\x00\x18ftypcrx " + b"\x00" * 64, "IMG.CR3", "Canon CR3 raw"),
        (b"FUJIFILMCCD-RAW 0201" + b"\x00" * 64, "a.raf", "Fujifilm RAF raw"),
        (b"II*\x00\x08\x00\x00\x00" + b"\x00" * 64, "scan.jpg", "TIFF"),
        (b"GIF89a" + b"\x00" * 64, "a.png", "GIF"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif" + b"\x00" * 64, "a.heic", "AVIF"),
        (b"any bytes", "a.dng", "Adobe DNG raw"),
    ],
)
def test_a_known_format_that_is_not_taken_is_named(tmp_path: Path, content: bytes, name: str, form: str) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(Unsupported, match=form):
        run(source)


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "bomb.png"
    source.write_bytes(png_that_declares(50_000, 50_000))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(TooLarge, match="50000 x 50000"):
        run(source)


def test_the_pixel_limit_counts_what_a_jpeg_is_decoded_to(tmp_path: Path) -> None:
    source = tmp_path / "big.jpg"
    gradient(4096, 4096).save(source)
    answer, _ = run(source, max_side=512, max_pixels=1_000_000)
    assert answer.outcome == "processed"
    gradient(4096, 4096).save(source, progressive=True)
    with pytest.raises(TooLarge):
        run(source, max_side=512, max_pixels=1_000_000)


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "fat.jpg"
    gradient(64, 64).save(source)
    with pytest.raises(TooLarge, match="at most 100"):
        run(source, max_bytes=100)


def test_a_damaged_exif_block_costs_only_itself(tmp_path: Path) -> None:
    source = tmp_path / "odd.jpg"
    gradient(64, 64).save(source, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    answer, output = run(source)
    assert answer.outcome == "processed"
    assert (output / "metadata.json").exists()


def test_senseless_exif_numbers_are_left_out(tmp_path: Path) -> None:
    exif = exif_block()
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: (900.0, 0.0, 0.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (1.0, 0.0, 0.0),
        }
    )
    exif[Base.Orientation] = 77
    source = tmp_path / "odd.jpg"
    gradient(64, 64).save(source, exif=exif)
    _, output = run(source, position="keep")
    described = json.loads((output / "metadata.json").read_text())["exif"]
    assert "position" not in described
    assert "orientation" not in described


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_raise_anything_but_a_refusal(tmp_path: Path, seed: int) -> None:
    import random

    rand = random.Random(seed)
    source = tmp_path / "flip.jpg"
    suffix = ("jpg", "png", "heic")[seed % 3]
    if suffix == "heic":
        pillow_heif.from_pillow(gradient(80, 60)).save(source, exif=exif_block(3, position=True).tobytes())
    else:
        gradient(80, 60).save(source, {"jpg": "JPEG", "png": "PNG"}[suffix], exif=exif_block(3, position=True))
    data = bytearray(source.read_bytes())
    for _ in range(1 + seed // 3):
        data[rand.randrange(12, len(data))] = rand.randrange(256)
    source.write_bytes(data)
    try:
        answer, _ = run(source)
    except Refusal:
        return
    assert answer.outcome == "processed"
