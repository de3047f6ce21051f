"""Reads what a model is to be asked, in a process of the pool: checks it, and makes its images small.

A request is a text, a photo (the operator's question goes with it), or JSON as the chat interface has it, with images
only as data. An address in it is refused: the model's server would fetch it for whoever wrote it. What comes out is
one file, `request.json`, for the coroutine that asks.
"""

import base64
import binascii
import io
import warnings
from typing import Any, Final, Literal

import msgspec
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from worker.handlers.contract import Answer, Task, TooLarge, Unreadable, Unsupported
from worker.handlers.model.wire import Prepared

__all__ = ["REQUEST_FILE", "ModelInputHandler"]

REQUEST_FILE: Final = "request.json"
_MESSAGES_MAX: Final = 64
_PARTS_MAX: Final = 64
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "HEIF")
_DATA_MARK: Final = ";base64,"

Image.MAX_IMAGE_PIXELS = None  # ours is held against the header, before anything is decoded
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


class _Url(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class _Text(msgspec.Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class _Picture(msgspec.Struct, frozen=True, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    image_url: _Url


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Text | _Picture]


class _Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: list[_Message]
    max_tokens: int | None = None
    temperature: float | None = None


class ModelInputHandler:
    """Options: model.image_side, .image_quality, .image_prompt, .images_max, .max_pixels, .max_text (bytes)."""

    kind = "model_input"
    extensions: frozenset[str] = frozenset()

    def recognises(self, head: bytes) -> bool:
        """It is only asked by name."""
        del head
        return False

    def run(self, task: Task) -> Answer:
        """request.json, which is no file of a response."""
        chat = _read(task)
        prepared = _Preparation(task).of(chat)
        (task.output / REQUEST_FILE).write_bytes(msgspec.json.encode(prepared))
        return Answer("processed", summary={"images": prepared.images, "text_bytes": prepared.text_bytes})


def _read(task: Task) -> _Chat:
    size, most = task.path.stat().st_size, task.option("model.max_request", 48 * 1024 * 1024)
    if size > most:
        raise TooLarge(f"the request has {size} bytes; at most {most} are taken")
    data = task.path.read_bytes()
    if _is_image(data[:64]):
        question = task.option("model.image_prompt", "Describe what this photo shows.")
        url = "data:image/any;base64," + base64.b64encode(data).decode("ascii")
        return _Chat([_Message("user", [_Text(question), _Picture(_Url(url))])])
    if data.lstrip()[:1] == b"{" and not task.name.lower().endswith(".prompt"):
        return _read_chat(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("the request is neither text in UTF-8, nor JSON, nor a photo") from None
    return _Chat([_Message("user", text)])


def _read_chat(data: bytes) -> _Chat:
    try:
        chat = msgspec.json.decode(data, type=_Chat)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"the request is not as the chat interface has it: {error}"[:300]) from None
    if not 1 <= len(chat.messages) <= _MESSAGES_MAX:
        raise Unreadable(f"messages: {len(chat.messages)}; 1 to {_MESSAGES_MAX} are taken")
    if chat.max_tokens is not None and chat.max_tokens < 1:
        raise Unreadable("max_tokens: it must be 1 or more")
    if chat.temperature is not None and not 0 <= chat.temperature <= 2:
        raise Unreadable("temperature: it must be from 0 to 2")
    return chat


def _is_image(head: bytes) -> bool:
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis"))
    )


class _Preparation:
    """One request's images and texts, counted on the way."""

    def __init__(self, task: Task) -> None:
        self._side = max(32, min(4096, task.option("model.image_side", 1024)))
        self._quality = max(30, min(95, task.option("model.image_quality", 80)))
        self._pixels_max = task.option("model.max_pixels", 64_000_000)
        self._images_max = task.option("model.images_max", 8)
        self._text_max = task.option("model.max_text", 128 * 1024)
        self._images = 0
        self._text = 0

    def of(self, chat: _Chat) -> Prepared:
        messages = [{"role": one.role, "content": self._content(one.content)} for one in chat.messages]
        if not self._text and not self._images:
            raise Unreadable("the request is empty")
        return Prepared(messages, self._text, self._images, chat.max_tokens, chat.temperature)

    def _content(self, content: str | list[_Text | _Picture]) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return self._counted(content)
        if len(content) > _PARTS_MAX:
            raise TooLarge(f"a message has {len(content)} parts; at most {_PARTS_MAX} are taken")
        return [
            {"type": "text", "text": self._counted(part.text)} if isinstance(part, _Text) else self._picture(part)
            for part in content
        ]

    def _counted(self, text: str) -> str:
        self._text += len(text.encode("utf-8", "replace"))
        if self._text > self._text_max:
            raise TooLarge(f"the texts have more than {self._text_max} bytes together")
        return text

    def _picture(self, part: _Picture) -> dict[str, Any]:
        self._images += 1
        if self._images > self._images_max:
            raise TooLarge(f"more than {self._images_max} images")
        small = base64.b64encode(self._small(_data_of(part.image_url.url))).decode("ascii")
        return {
            "type": "image_url",
            "image_url": {"url": f"data:image/jpeg;base64,{small}", "detail": part.image_url.detail},
        }

    def _small(self, data: bytes) -> bytes:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                    return self._shrunk(image)
        except MemoryError:
            raise TooLarge("an image needs more memory than a handler may use; send it smaller") from None
        except UnidentifiedImageError:
            raise Unsupported("an image is neither JPEG, PNG, WebP nor HEIC") from None
        except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, OverflowError, RuntimeError):
            raise Unreadable("an image is damaged or cut short") from None

    def _shrunk(self, image: Image.Image) -> bytes:
        if image.format == "JPEG":
            image.draft("RGB", (self._side, self._side))
        if image.size[0] * image.size[1] > self._pixels_max:
            raise TooLarge(
                f"an image is {image.size[0]} x {image.size[1]} pixels; at most {self._pixels_max} are taken"
            )
        image.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "PA", "P"):  # a JPEG has no transparency
            seen = upright.convert("RGBA")
            ground = Image.new("RGB", seen.size, (255, 255, 255))
            ground.paste(seen, mask=seen.getchannel("A"))
            upright = ground
        written = io.BytesIO()
        # Without the source's Exif: where a photo was taken is nobody else's business.
        upright.convert("RGB").save(written, "JPEG", quality=self._quality, exif=b"")
        return written.getvalue()


def _data_of(url: str) -> bytes:
    head, mark, data = url.partition(_DATA_MARK)
    if not head.startswith("data:image/") or not mark or len(head) > 100:
        raise Unsupported("an image must come as data, as in data:image/jpeg;base64,…; addresses are not fetched")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("an image is not base64") from None
