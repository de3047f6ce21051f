"""OpenTelemetry's words for what jobs and events carry; imported only where something is traced."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from shared.traceparent import Traceparent

__all__ = ["SpanIds", "context_of", "link_to"]


class SpanIds(IdGenerator):
    """Random ids, but for the span that was promised its ids before it was made: those of `next`."""

    def __init__(self) -> None:
        self.next: Traceparent | None = None
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        """Of the span that is being made."""
        return self.next.span_id if self.next is not None else self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        """Of a span without a parent."""
        return self.next.trace_id if self.next is not None else self._random.generate_trace_id()


def context_of(of: Traceparent | None) -> Context:
    """In which a span is a child of it, or of none."""
    return Context() if of is None else set_span_in_context(NonRecordingSpan(_remote(of)), Context())


def link_to(of: Traceparent) -> Link:
    """From a span that is not."""
    return Link(_remote(of))


def _remote(of: Traceparent) -> SpanContext:
    return SpanContext(of.trace_id, of.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
