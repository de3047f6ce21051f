import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from tests.worker.handlers.profiles import P3, rgb_profile
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
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
        (b"BM" + b"\x00" * 64, "a.png", "BMP"),
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


def test_a_photo_above_the_pixel_limit_is_refused_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gradient(1200, 1000)
    sources = [tmp_path / f"big.{suffix}" for suffix in ("jpg", "png", "webp", "gif", "heic")]
    for source in sources[:-1]:
        image.save(source)
    pillow_heif.from_pillow(image).save(sources[-1], enc_params={"preset": "ultrafast"})
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for source in sources:
        with pytest.raises(TooLarge, match=r"1200 x 1000 pixels, 1\.2 megapixels; at most 1 are taken"):
            run(source, max_pixels=1_000_000)


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
    suffix = ("jpg", "png", "heic", "webp", "gif")[seed % 5]
    source = tmp_path / f"flip.{suffix}"
    if suffix == "heic":
        pillow_heif.from_pillow(gradient(80, 60)).save(source, exif=exif_block(3, position=True).tobytes())
    else:
        gradient(80, 60).save(source, exif=exif_block(3, position=True))
    data = bytearray(source.read_bytes())
    for _ in range(1 + seed // 3):
        data[rand.randrange(12, len(data))] = rand.randrange(256)
    source.write_bytes(data)
    try:
        answer, _ = run(source)
    except Refusal:
        return
    assert answer.outcome == "processed"


@pytest.mark.parametrize("options", [{}, {"lossless": True}], ids=["lossy", "lossless"])
def test_webp_is_read_upright(tmp_path: Path, options: dict[str, Any]) -> None:
    source = tmp_path / "phone.webp"
    gradient(3000, 1000).save(source, exif=exif_block(6, position=True), **options)
    answer, output = run(source)
    assert (answer.outcome, answer.summary["format"]) == ("processed", "WebP")
    assert (answer.summary["width"], answer.summary["height"]) == (1000, 3000)
    assert answer.summary["position"] == "stripped"
    with Image.open(output / "photo.jpg") as photo:
        assert photo.size == (683, 2048)


def test_a_webp_bomb_is_refused_before_its_decoder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "bomb.webp"
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (16_000).to_bytes(3, "little") * 2 + bytes(8)
    source.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(TooLarge, match="16001 x 16001"):
        run(source)
    with pytest.raises(TooLarge, match=r"decoding this WebP takes 4609 MB of memory and a handler may use 500 MB"):
        run(source, max_pixels=1_000_000_000)


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_of_an_animation_the_first_frame_is_shown_and_that_is_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (60, 40), color) for color in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    source = tmp_path / f"moving.{suffix}"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=100)
    answer, output = run(source)
    assert answer.detail == "the file is an animation of 3 frames; the response shows the first"
    assert answer.summary["pictures"] == {"count": 3, "shown": 1, "animated": True}
    with Image.open(output / "photo.jpg") as photo:
        red, green, blue = photo.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
        assert red > 180
        assert max(green, blue) < 60


def test_of_several_pictures_in_a_heic_the_main_one_is_shown(tmp_path: Path) -> None:
    heif = pillow_heif.from_pillow(Image.new("RGB", (64, 64), (200, 30, 30)))
    heif.add_from_pillow(Image.new("RGB", (96, 64), (30, 30, 200)))
    source = tmp_path / "two.heic"
    heif.save(source, primary_index=1)
    answer, _ = run(source)
    assert answer.detail == "the file holds 2 pictures; the response shows the main one"
    assert answer.summary["width"] == 96


def test_pictures_that_a_camera_adds_to_a_jpeg_are_nobodys_business(tmp_path: Path) -> None:
    source = tmp_path / "preview.jpg"
    gradient(200, 100).save(source, "MPO", save_all=True, append_images=[gradient(20, 10)])
    answer, _ = run(source)
    assert (answer.outcome, answer.detail, answer.summary["width"]) == ("processed", None, 200)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
def test_colours_come_out_as_srgb_and_untagged(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"wide.{suffix}"
    image, icc = Image.new("RGB", (64, 64), (230, 90, 60)), rgb_profile("Display P3", P3)
    if suffix == "heic":
        heif = pillow_heif.from_pillow(image)
        heif.info["icc_profile"], heif.info["icc_profile_type"] = icc, "prof"
        heif.save(source, quality=90)
    else:
        image.save(source, icc_profile=icc, quality=95)
    answer, output = run(source)
    assert answer.summary["color_profile"] == {"name": "Display P3", "done": "converted"}
    with Image.open(output / "photo.jpg") as photo:
        assert "icc_profile" not in photo.info
        level = photo.getpixel((32, 32))
        assert isinstance(level, tuple)
        assert level[0] > 240


def test_the_photo_is_progressive_unless_told_otherwise(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    gradient(400, 300).save(source)
    for wanted in (True, False):
        _, output = run(source, progressive=wanted)
        with Image.open(output / "photo.jpg") as photo:
            assert bool(photo.info.get("progressive")) is wanted


def test_further_sizes_are_written_when_they_are_smaller(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    gradient(1000, 500).save(source)
    answer, output = run(source, sizes="1600,800,200", max_side=1024)
    assert [file.name for file in answer.files] == [
        "photo.jpg", "photo-800.jpg", "thumbnail.jpg", "photo-200.jpg", "metadata.json",
    ]  # fmt: skip
    assert answer.summary["sizes"] == [
        {"name": "photo-800.jpg", "width": 800, "height": 400},
        {"name": "photo-200.jpg", "width": 200, "height": 100},
    ]
    with Image.open(output / "photo-200.jpg") as small:
        assert small.size == (200, 100)


def test_a_placeholder_comes_with_the_response(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    gradient(1000, 500).save(source)
    answer, _ = run(source)
    kind, _, data = answer.summary["placeholder"].partition(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < 600
    with Image.open(io.BytesIO(base64.b64decode(data))) as tiny:
        assert tiny.size == (24, 12)
        left, right = tiny.convert("RGB").getpixel((1, 6)), tiny.convert("RGB").getpixel((22, 6))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert right[0] > left[0] + 80
    answer, _ = run(source, placeholder=False)
    assert "placeholder" not in answer.summary


def test_comments_and_blocks_of_the_source_do_not_travel_along(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    gradient(400, 300).save(source, comment=b"51.5 N, 0.1 W", xmp=b"<x:xmpmeta>51,30N</x:xmpmeta>")
    _, output = run(source, sizes="200")
    for name in ("photo.jpg", "photo-200.jpg", "thumbnail.jpg"):
        content = (output / name).read_bytes()
        assert b"51" + b".5 N" not in content
        assert b"xmpmeta" not in content
