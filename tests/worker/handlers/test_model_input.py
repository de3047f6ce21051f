"""What a model may be asked, made ready: images small and without Exif, everything bounded, no address followed."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from worker.handlers.contract import Refusal, Task
from worker.handlers.model.wire import Prepared
from worker.handlers.model_input import REQUEST_FILE, ModelInputHandler


def prepare(folder: Path, content: bytes | str, name: str = "a.chat", **options: Any) -> Prepared:
    path, output = folder / "input", folder / "output"
    output.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    given = {f"model.{key}": value for key, value in options.items()}
    assert ModelInputHandler().run(Task(name, path, output, given)).outcome == "processed"
    return msgspec.json.decode((output / REQUEST_FILE).read_bytes(), type=Prepared)


def image(form: str = "JPEG", size: tuple[int, int] = (400, 300), mode: str = "RGB", orientation: int = 1) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    Image.new(mode, size).save(file, form, exif=exif)
    return file.getvalue()


def asking(url: str) -> str:
    part = {"type": "image_url", "image_url": {"url": url}}
    return json.dumps({"messages": [{"role": "user", "content": [part]}]})


def data_url(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def sent(prepared: Prepared, part: int = 0) -> Image.Image:
    url = prepared.messages[0]["content"][part]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def outcome(folder: Path, content: bytes | str, **options: Any) -> str:
    with pytest.raises(Refusal) as caught:
        prepare(folder, content, **options)
    return caught.value.outcome


def test_an_image_is_turned_made_small_and_freed_of_its_exif(tmp_path: Path) -> None:
    made = sent(prepare(tmp_path, asking(data_url(image(orientation=6))), image_side=100))
    assert made.size == (75, 100)
    assert not made.getexif()


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGBA"), ("PNG", "L"), ("WEBP", "RGB"), ("PNG", "1")])
def test_every_format_is_sent_as_a_jpeg(tmp_path: Path, form: str, mode: str) -> None:
    prepared = prepare(tmp_path, image(form, mode=mode), "a.png", image_prompt="What is it?")
    assert prepared.images == 1
    assert prepared.messages[0]["content"][0] == {"type": "text", "text": "What is it?"}
    assert sent(prepared, 1).format == "JPEG"


def test_texts_are_counted_in_bytes(tmp_path: Path) -> None:
    assert prepare(tmp_path, "Grüße", "a.prompt").text_bytes == 7
    assert prepare(tmp_path, '{"not": "read"}', "a.prompt").images == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "unreadable"),
        (b"\xff\xfe\x00", "unreadable"),
        ('{"messages": []}', "unreadable"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "unreadable"),
        ('{"messages": [{"role": "user", "content": "x"}], "stream": false}', "unreadable"),
        ('{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "unreadable"),
        ('{"messages": [{"role": "user", "content": "x"}], "temperature": 3}', "unreadable"),
        ("{" * 5000, "unreadable"),
        (asking("https://example.com/a.jpg"), "unsupported"),
        (asking("file:///etc/passwd"), "unsupported"),
        (asking("data:image/jpeg;base64,***"), "unreadable"),
        (asking(data_url(b"no image")), "unsupported"),
        (asking(data_url(image()[:400])), "unreadable"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_reason(tmp_path: Path, content: bytes | str, expected: str) -> None:
    assert outcome(tmp_path, content) == expected


def test_texts_images_and_pixels_are_bounded(tmp_path: Path) -> None:
    assert outcome(tmp_path, "xxxx", max_text=3) == "too_large"
    assert outcome(tmp_path, asking(data_url(image())), images_max=0) == "too_large"
    assert outcome(tmp_path, asking(data_url(image("PNG"))), max_pixels=1000) == "too_large"
    assert outcome(tmp_path, "xxxx", max_request=3) == "too_large"
