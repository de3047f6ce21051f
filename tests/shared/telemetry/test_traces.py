"""Where tracing is off nothing of it is loaded, and what it needs is said with the other settings."""

import subprocess
import sys

import pytest

from shared.settings import SettingsError, load
from shared.telemetry import traces
from shared.telemetry.traces import TraceSettings, open_tracer


def test_where_nothing_is_traced_no_exporter_is_imported() -> None:
    # redis-py imports OpenTelemetry by itself where it is installed.
    program = (
        "import sys, hub.traced, watcher.announce, worker.endings; from shared.telemetry.traces import *; "
        "assert open_tracer(TraceSettings(), process='p', name='n') is None; "
        "print([one for one in sys.modules if one.startswith('opentelemetry.exporter')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_share_without_the_package_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_EXPORTER", "nobody.has.this")
    assert open_tracer(load(TraceSettings, {"FLEETWIRE_TRACE_SAMPLE": "0"}), process="p", name="n") is None
    with pytest.raises(SettingsError, match=r"FLEETWIRE_TRACE_SAMPLE='0.1' is wrong: .*install fleetwire\[otlp\]"):
        load(TraceSettings, {"FLEETWIRE_TRACE_SAMPLE": "0.1"})


@pytest.mark.parametrize("share", ["-0.1", "1.1", "nan", "much"])
def test_a_share_is_from_0_to_1(share: str) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_TRACE_SAMPLE"):
        load(TraceSettings, {"FLEETWIRE_TRACE_SAMPLE": share})
