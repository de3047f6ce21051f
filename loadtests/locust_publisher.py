"""Publishes the events of a Locust run by REST, in a greenlet, to the devices that are connected; Locust samples it."""

import time
from typing import Any, Final

import gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment

from loadtests.device_user import REQUEST_DEADLINE_S, LoadRun
from loadtests.driver.publications import Publications, PublishRefused, read_answer

__all__ = ["Publisher"]

PUBLISH_DEADLINE_S: Final = 60.0
_STEP_S: Final = 0.005


class Publisher:
    """From `start()` to `stop()`. What went wrong, if anything did, is in `failure`."""

    def __init__(self, environment: Environment, run: LoadRun, *, api: str, rate: float) -> None:
        self.publications = Publications(run.history, run=run.name, rate=rate)
        self.failure: str | None = None
        self._run = run
        self._headers = {"Authorization": f"Bearer {run.token('load-locust', 'service')}"}
        self._client = FastHttpSession(
            api,
            environment.events.request,
            user=None,
            network_timeout=REQUEST_DEADLINE_S,
            connection_timeout=REQUEST_DEADLINE_S,
        )
        self._stopping = False
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin once a device is connected."""
        self._greenlet = gevent.spawn(self._guarded)

    def stop(self) -> None:
        """End, after the answer to what is under way."""
        self._stopping = True
        if self._greenlet is not None:
            self._greenlet.join()

    def _guarded(self) -> None:
        try:
            self._publish()
        except PublishRefused as refused:
            self.failure = str(refused)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must fail by it
            self.failure = repr(error)

    def _publish(self) -> None:
        while not self._stopping:
            batch = self.publications.due(self._run.there, now=time.monotonic(), sent_ns=time.monotonic_ns())
            if batch:
                self.publications.answered(batch, self._post(batch))
                self._run.sent.update(item["device_id"] for item in batch)
            else:
                gevent.sleep(_STEP_S)

    def _post(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One batch, repeated under the same ids while the API cannot say what became of it."""
        end = time.monotonic() + PUBLISH_DEADLINE_S
        while True:
            answer = self._client.post(
                "/api/v1/events", name="POST events", json={"events": batch}, headers=self._headers
            )
            text = answer.text or ""
            if (results := read_answer(answer.status_code, text)) is not None:
                return results
            if time.monotonic() > end:
                trouble = f"HTTP {answer.status_code}: {text[:300]}"
                raise PublishRefused(f"nothing could be published for {PUBLISH_DEADLINE_S:.0f} s: {trouble}")
            self.publications.repeated_requests += 1
            gevent.sleep(0.1)
