"""What can go wrong in a worker. The tree:

WorkerError
├── AttemptFailed          this attempt came to nothing; another may succeed
│   ├── HandlerFailed      the handler raised something that is no refusal
│   ├── HandlerCrashed     its process died: a signal, the memory bound, an exit
│   ├── HandlerTimedOut    it did not end in time and was killed
│   ├── PoolUnavailable    no process could be started
│   └── Outage             a store does not answer: no fault of the job, and not counted among its attempts
│       ├── HomeUnavailable    that of the response; another may take it
│       └── ServiceAway        what a handler needs: a model, say
├── PermanentFailure       no attempt can succeed
└── LeaseLost              the job is another's now, or was ended: stop, write nothing more
"""

__all__ = [
    "AttemptFailed",
    "HandlerCrashed",
    "HandlerFailed",
    "HandlerTimedOut",
    "HomeUnavailable",
    "LeaseLost",
    "Outage",
    "PermanentFailure",
    "PoolUnavailable",
    "ServiceAway",
    "WorkerError",
]


class WorkerError(Exception):
    """Something about a job."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or type(self).__doc__)


class AttemptFailed(WorkerError):
    """This attempt came to nothing."""


class HandlerFailed(AttemptFailed):
    """The handler raised an error."""


class HandlerCrashed(AttemptFailed):
    """The handler's process died."""


class HandlerTimedOut(AttemptFailed):
    """The handler did not end in time."""


class PoolUnavailable(AttemptFailed):
    """No handler process could be started."""


class Outage(AttemptFailed):
    """A store does not answer."""


class HomeUnavailable(Outage):
    """The store of the response does not answer."""


class ServiceAway(Outage):
    """A service that a handler needs does not answer."""

    def __init__(self, detail: str | None = None, *, after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.after_s = after_s


class PermanentFailure(WorkerError):
    """No attempt can succeed."""


class LeaseLost(WorkerError):
    """The job is another worker's now, or was ended."""
