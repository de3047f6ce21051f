"""Every wait and bound of the client, in one place, so that tests can run it faster and unusual links can be given
more."""

from dataclasses import dataclass, fields

__all__ = ["Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The defaults hold the promise that a device goes on by REST within 10 s and is back on the socket within
    60 s."""

    open_s: float = 4.0  # TCP, TLS and handshake of one socket try
    welcome_s: float = 4.0  # from the handshake to the hub's first frame
    grace_s: float = 3.0  # without a socket before REST begins; short hub restarts stay below it
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 20.0  # also the longest pause between probes for the socket while REST works
    stable_s: float = 5.0  # a socket that lived this long starts the backoff anew
    flapping_s: float = 30.0  # told to use REST for a while and not for how long: this long to twice this long
    retry_after_max_s: float = 60.0  # a longer wish of the server is cut to this, before its jitter
    silence_heartbeats: float = 1.45  # heartbeats without an inbound byte until the socket counts as dead: 29 s
    still_working_s: float = 15.0  # a body that takes longer is said to be working this often
    request_s: float = 10.0  # one REST request
    rest_wait_s: float = 20.0  # long-poll
    sync_s: float = 45.0  # one batch of operations by REST
    sync_answer_s: float = 15.0  # one over a socket; a hub answers within 10
    sync_base_s: float = 1.0  # between tries of a batch: this, then twice, four times … as long
    sync_cap_s: float = 60.0
    token_s: float = 15.0  # the token callback
    renew_before_s: float = 60.0  # before a live socket's token ends, or in the last quarter of what is left of it
    renew_again_s: float = 5.0  # at least, after a renewal that brought nothing; at most 20 times that
    move_pace_s: float = 5.0  # between two moves that hubs ask for
    send_s: float = 10.0  # one frame into the socket
    close_s: float = 2.0  # closing handshake, last ack
    read_stall_s: float = 20.0  # a download without a byte
    tick_max_s: float = 1.0  # timers of the event loop stop in suspend, so none is trusted for longer than this

    def faster(self, factor: float) -> "Timing":
        """All waits divided by `factor`; counts stay."""
        return Timing(
            **{
                field.name: getattr(self, field.name) / (1.0 if field.name == "silence_heartbeats" else factor)
                for field in fields(self)
            }
        )
