"""Log lines as JSON or for people, on standard error, with no secret in them.

`configure` is called once by each process. Lines carry the context variables bound around the work (`request_id`,
`device_id`, `event_id`, `stage`; see `structlog.contextvars.bound_contextvars`). Names and shapes of secrets are
blanked in one processor that sees everything, tracebacks and lines of libraries included. A control character never
reaches the output unescaped.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from shared.settings import choice, setting

__all__ = ["LogSettings", "configure", "redact"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_HIDDEN: Final = "[hidden]"
_SECRET_KEYS: Final = frozenset(
    {"api_key", "authorization", "cookie", "credential", "credentials", "dsn", "jwt", "key_material", "password"}
    | {"private_key", "proxy-authorization", "sec-websocket-protocol", "secret", "set-cookie", "signature"}
    | {"subprotocols", "ticket", "token"}
)
_SECRET_SUFFIXES: Final = ("_token", "_ticket", "_password", "_secret", "_dsn")
_NOT_SECRET: Final = frozenset({"lease_token"})  # a fencing number
# Every repetition is bounded, so that no text, however made, costs more than a few times its length. Before each shape
# stands what no text of it lacks once its case is folded: not "basic", because a dotless i passes for an i as well.
_SHAPES: Final = (
    (
        "://",
        re.compile(r"\b([a-z][a-z0-9+.-]{0,15}://[^\s/:@]{0,128}):[^\s/@]{1,512}@", re.IGNORECASE),
        rf"\1:{_HIDDEN}@",
    ),
    ("eyj", re.compile(r"\beyJ[\w-]{4,512}\.[\w-]+\.[\w-]*"), _HIDDEN),
    ("bearer", re.compile(r"\b(Bearer)\s{1,8}[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    ("bas", re.compile(r"\b(Basic)\s{1,8}[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (
        "=",
        re.compile(r"\b(token|ticket|password|secret|signature|sig|authorization)=[^\s&\"']+", re.IGNORECASE),
        rf"\1={_HIDDEN}",
    ),
)
_DEPTH_MAX: Final = 4
_TEXT_MAX: Final = 16_384


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is logged and how; a base class of every process's settings."""

    log_level: str = setting("FLEETWIRE_LOG_LEVEL", "info", help="Least level that is logged.", parse=choice(*_LEVELS))
    log_format: str = setting(
        "FLEETWIRE_LOG_FORMAT",
        "console",
        help="json for machines, console for people.",
        parse=choice("json", "console"),
    )


def configure(process: str, level: str = "info", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to `stream` (standard error), each with `process`."""
    number = getattr(logging, level.upper())
    render = _render_json if json else _render_console
    shared_processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _with(process=process),
        structlog.processors.format_exc_info,
        redact,
    ]
    output = stream or sys.stderr
    structlog.configure(
        processors=[*shared_processors, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shared_processors, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # Libraries tell at info what our own lines tell better.
    for name in ("asyncio", "httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "PIL"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def redact(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """A structlog processor that blanks secrets, by the name of their field and by their shape in any text."""
    del logger, method
    return {key: _clean(key, value, _DEPTH_MAX) for key, value in event_dict.items()}


def _clean(key: object, value: Any, depth: int) -> Any:
    if isinstance(key, str) and value is not None and _names_secret(key.lower()):
        return _HIDDEN
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, bytes):
        return _clean_text(value[:_TEXT_MAX].decode(errors="backslashreplace"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(k): _clean(k, v, depth - 1) for k, v in value.items()} if depth else "…"
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(None, v, depth - 1) for v in value] if depth else "…"
    return _clean_text(str(value))


def _names_secret(key: str) -> bool:
    return key in _SECRET_KEYS or (key.endswith(_SECRET_SUFFIXES) and key not in _NOT_SECRET)


def _clean_text(text: str) -> str:
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX] + "…"
    # Most texts are plain words and ids: looking for what every shape has costs a tenth of trying them all.
    folded = text.casefold()
    for sign, shape, replacement in _SHAPES:
        if sign in folded:
            text = shape.sub(replacement, text)
    return text


def _with(**fields: str) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    def add(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        del logger, method
        event_dict.update(fields)
        return event_dict

    return add


def _logger_name(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    del logger, method
    record = event_dict.get("_record")
    if isinstance(record, logging.LogRecord):
        event_dict["logger"] = record.name
    return event_dict


def _render_json(logger: WrappedLogger, method: str, event_dict: EventDict) -> str:
    del logger, method
    first = {key: event_dict.pop(key, None) for key in ("time", "level", "event")}
    fields = first | dict(event_dict)
    try:
        return orjson.dumps(fields, default=str).decode()
    except (TypeError, ValueError):  # a lone surrogate, or a number beyond 64 bits
        return orjson.dumps({key: ascii(value) for key, value in fields.items()}).decode()


def _render_console(logger: WrappedLogger, method: str, event_dict: MutableMapping[str, Any]) -> str:
    del logger, method
    time, level, process = (str(event_dict.pop(key, "")) for key in ("time", "level", "process"))
    event, traceback = event_dict.pop("event", ""), event_dict.pop("exception", None)
    fields = "".join(f" {key}={_shown(value)}" for key, value in event_dict.items())
    line = f"{time[11:23]} {level:<7} {process}: {_shown(event)}{fields}"
    if traceback is not None:
        line += "\n" + "\n".join(_printable(part) for part in str(traceback).split("\n"))
    return line


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return _printable(text)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
