"""Spans of the stages of a file's life, for those files that are traced.

Nothing is measured for its own sake: a span is made when a stage is over, from the times that are known by then, so
what is not traced costs nothing. All spans of one file are children of its first; what is delivered again from the log
belongs to a trace of its own, with a link. OpenTelemetry is imported only where `trace_sample` is above 0 (extra
`otlp`). Spans that cannot be sent in time are dropped: nobody waits for a collector.
"""

import asyncio
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.clock import monotonic, wall
from shared.settings import bounded_float, setting, text
from shared.stages import Stage
from shared.traceparent import SAMPLED_END, Traceparent, of_event, of_job

if TYPE_CHECKING:
    from uuid import UUID

    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["TraceSettings", "Tracer", "open_tracer", "wall_of"]

_log = structlog.get_logger(__name__)

_QUEUE_MAX: Final = 4096
_BATCH_MAX: Final = 512
_SEND_EVERY_MS: Final = 1000
_DEADLINE_S: Final = 2.0
_NS: Final = 1_000_000_000
_TRACED_COMMAND: Final = SAMPLED_END + b"\r\n"


_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"


def _sample(raw: str) -> float:
    sample = bounded_float(0, 1)(raw)
    if sample > 0 and not _is_installed(_EXPORTER):
        raise ValueError("what it needs is not installed: install fleetwire[otlp], or set it to 0")
    return sample


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """What is traced and where spans go; a base class of the settings of processes that make spans."""

    trace_sample: float = setting(
        "FLEETWIRE_TRACE_SAMPLE",
        0.0,
        help="Share of files that are traced, 0 to 1; above 0 the extra fleetwire[otlp] must be installed.",
        parse=_sample,
    )
    trace_url: str = setting(
        "FLEETWIRE_TRACE_URL",
        "http://127.0.0.1:4318/v1/traces",
        help="Where spans are sent by OTLP over HTTP.",
        parse=text(max_length=1000),
    )


class Tracer:
    """Makes spans, all of them when they are over. Its calls never wait and never fail."""

    def __init__(self, exporter: "SpanExporter", *, process: str, name: str, sample: float, at_once: bool = False):
        """`at_once`: export in the call itself, for exporters that keep spans in memory."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        from shared.telemetry.span_ids import SpanIds, context_of, link_to

        self._sample = sample
        self._context_of, self._link_to = context_of, link_to
        self._ids = SpanIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": f"fleetwire-{process}", "service.instance.id": name}),
            id_generator=self._ids,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attributes=32, max_span_attribute_length=256),
        )
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter)
            if at_once
            else BatchSpanProcessor(
                exporter,
                max_queue_size=_QUEUE_MAX,
                schedule_delay_millis=_SEND_EVERY_MS,
                max_export_batch_size=_BATCH_MAX,
                export_timeout_millis=_DEADLINE_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("fleetwire")

    def of_job(self, job_id: "UUID") -> Traceparent | None:
        """Whether the file that becomes this job is traced, and by what."""
        return of_job(job_id, self._sample)

    def root(self, of: Traceparent, name: str, began: float, ended: float, **attributes: Any) -> None:
        """The span that all others of the trace are children of. Times are Unix seconds."""
        self._ids.next = of
        try:
            self._make(name, began, ended, attributes, context=self._context_of(None), links=None)
        finally:
            self._ids.next = None

    def stage(
        self, of: Traceparent | None, name: str, began: float, ended: float, *, again: bool = False, **attributes: Any
    ) -> None:
        """A stage of what carries `of`; nothing if that is not traced. `again`: linked, as it may be no news."""
        if of is None or not of.is_sampled:
            return
        context, links = self._context_of(None if again else of), [self._link_to(of)] if again else None
        self._make(name, began, ended, attributes, context=context, links=links)

    def published(self, command: bytes, waited_s: float) -> None:
        """Redis took the command that publishes an event, if it is that of one."""
        if command.endswith(_TRACED_COMMAND) and (of := of_event(command[:-2])) is not None:
            now = wall()
            self.stage(of, Stage.PUBLISHED, now - waited_s, now, stage=Stage.PUBLISHED.value)

    async def close(self) -> None:
        """Send what waits, for a moment."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await asyncio.to_thread(self._provider.shutdown)
        except TimeoutError:
            _log.warning("spans were not sent before the end")

    def _make(self, name: str, began: float, ended: float, attributes: Any, *, context: Any, links: Any) -> None:
        span = self._tracer.start_span(
            name,
            context=context,
            attributes={key: value for key, value in attributes.items() if value is not None},
            links=links,
            start_time=int(min(began, ended) * _NS),
        )
        span.end(int(ended * _NS))


def open_tracer(settings: TraceSettings, *, process: str, name: str) -> Tracer | None:
    """None when nothing is to be traced."""
    if settings.trace_sample <= 0:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=settings.trace_url, timeout=_DEADLINE_S)
    return Tracer(exporter, process=process, name=name, sample=settings.trace_sample)


def wall_of(moment: float) -> float:
    """Unix seconds of a moment of the monotonic clock."""
    return wall() - (monotonic() - moment)
