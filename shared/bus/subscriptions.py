"""Which channels are wanted and which Redis has confirmed: the pure half of the reader.

A slot is held by as many as asked for it and let go of some time after the last one left, so that a device that comes
back finds it subscribed. Redis answers in order, so the oldest question is the one answered; an `sunsubscribe` that
nobody asked for means that the slot moved. Whoever goes on without a confirmation is owed a gap when it comes: what
was published between is only in the log.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Command", "Held", "Subscriptions"]

SUBSCRIBE: Final = b"SSUBSCRIBE"
UNSUBSCRIBE: Final = b"SUNSUBSCRIBE"


class Command(NamedTuple):
    """One question to Redis: one channel each, so that an answer or an error is about that channel alone."""

    verb: bytes
    channel: bytes


class Held(NamedTuple):
    """What moves with a channel from one node to another. `owed`: a gap is to be told when it is live there."""

    holders: int
    owed: bool


@dataclass(slots=True)
class _Channel:
    holders: int = 0
    idle_since: float | None = None
    unanswered: int = 0
    last_asked: bytes | None = None
    confirmed: bool = False
    owed: bool = False
    retry_at: float | None = None

    def is_being_subscribed(self) -> bool:
        return self.unanswered > 0 and self.last_asked == SUBSCRIBE


class Subscriptions:
    """State of all channels on one connection at a time. After every call, `take_commands()` has what to write."""

    def __init__(self, *, linger_s: float = 30.0, retry_s: float = 1.0) -> None:
        self._linger_s = linger_s
        self._retry_s = retry_s
        self._channels: dict[bytes, _Channel] = {}
        self._unanswered: deque[tuple[Command, float]] = deque()
        self._commands: list[Command] = []
        self._gaps: set[bytes] = set()
        self._connected = False

    def __repr__(self) -> str:
        confirmed = sum(channel.confirmed for channel in self._channels.values())
        return f"Subscriptions({len(self._channels)} wanted, {confirmed} confirmed, {len(self._unanswered)} unanswered)"

    @property
    def all_confirmed(self) -> bool:
        """Whether everything wanted is subscribed."""
        return all(channel.confirmed for channel in self._channels.values())

    def is_confirmed(self, channel: bytes) -> bool:
        """Whether messages of the channel arrive, as far as Redis said."""
        state = self._channels.get(channel)
        return state is not None and state.confirmed

    def oldest_question(self) -> float | None:
        """When the oldest question was asked that has no answer."""
        return self._unanswered[0][1] if self._unanswered else None

    def acquire(self, channel: bytes, now: float) -> None:
        """One more holder."""
        state = self._channels.get(channel)
        if state is None:
            state = self._channels[channel] = _Channel()
        state.holders += 1
        state.idle_since = None
        if not state.confirmed and not state.is_being_subscribed():
            self._ask(SUBSCRIBE, channel, state, now)

    def release(self, channel: bytes, now: float) -> None:
        """One holder less."""
        state = self._channels.get(channel)
        if state is None or state.holders == 0:
            raise AssertionError(f"{channel!r} is held by nobody")
        state.holders -= 1
        if state.holders == 0:
            state.idle_since = now
            state.owed = False

    def owe(self, channel: bytes) -> None:
        """A holder stops waiting for the confirmation and goes on without."""
        state = self._channels.get(channel)
        if state is not None and not state.confirmed:
            state.owed = True

    def take_out(self, channel: bytes, now: float) -> Held | None:
        """The channel is served by another node now: let go of it here at once. None when nobody holds it."""
        state = self._channels.get(channel)
        if state is None:
            return None
        held = Held(state.holders, state.owed or state.confirmed)
        state.holders, state.owed = 0, False
        self._let_go(channel, state, now)
        return held if held.holders else None

    def adopt(self, channel: bytes, held: Held, now: float) -> None:
        """The channel is served here now."""
        state = self._channels.setdefault(channel, _Channel())
        state.holders += held.holders
        state.idle_since = None
        state.owed = state.owed or held.owed
        if not state.confirmed and not state.is_being_subscribed():
            self._ask(SUBSCRIBE, channel, state, now)

    def on_connected(self, now: float) -> None:
        """A new connection: ask for everything that is held, forget what only lingered."""
        self._connected = True
        for channel, state in list(self._channels.items()):
            if state.holders:
                self._ask(SUBSCRIBE, channel, state, now)
            else:
                del self._channels[channel]

    def on_disconnected(self) -> None:
        """Nothing arrives any more."""
        self._connected = False
        self._unanswered.clear()
        self._commands.clear()
        for state in self._channels.values():
            state.owed = state.owed or (state.confirmed and state.holders > 0)
            state.confirmed = False
            state.unanswered = 0
            state.retry_at = None

    def on_subscribed(self, channel: bytes) -> bool:
        """Redis confirmed; True when that is news."""
        if not self._answered(Command(SUBSCRIBE, channel)):
            return False
        state = self._channels.get(channel)
        if state is None or state.unanswered:
            return False
        state.confirmed = True
        state.retry_at = None
        if state.owed:
            state.owed = False
            self._gaps.add(channel)
        return True

    def on_unsubscribed(self, channel: bytes, now: float) -> bool:
        """Redis ended a subscription; True when nobody asked for that."""
        state = self._channels.get(channel)
        if self._answered(Command(UNSUBSCRIBE, channel)):
            if state is not None and state.unanswered == 0 and state.holders == 0:
                del self._channels[channel]
            return False
        if state is None:
            return False
        was_live, state.confirmed = state.confirmed, False
        if state.holders == 0:
            del self._channels[channel]
            return False
        state.owed = state.owed or was_live
        if not state.is_being_subscribed():
            self._ask(SUBSCRIBE, channel, state, now)
        return True

    def on_refused(self, now: float) -> Command | None:
        """Redis answered the oldest question with an error; asked again later. Returns the question."""
        if not self._unanswered:
            return None
        command, _ = self._unanswered.popleft()
        state = self._channels.get(command.channel)
        if state is None:
            return command
        state.unanswered -= 1
        if state.unanswered == 0:
            if state.holders == 0 and command.verb == UNSUBSCRIBE:
                del self._channels[command.channel]  # refused, because it is not subscribed here any more
            else:
                state.owed = state.owed or (state.confirmed and state.holders > 0)
                state.confirmed = False
                state.retry_at = now + self._retry_s
        return command

    def on_tick(self, now: float) -> None:
        """Ask again for what was refused, let go of what lingered long enough."""
        for channel, state in list(self._channels.items()):
            if state.holders == 0 and state.idle_since is not None and now - state.idle_since >= self._linger_s:
                self._let_go(channel, state, now)
            elif state.retry_at is not None and state.retry_at <= now and state.holders:
                self._ask(SUBSCRIBE, channel, state, now)

    def take_commands(self) -> list[Command]:
        """What to write to Redis, in order, once."""
        commands, self._commands = self._commands, []
        return commands

    def take_gaps(self) -> Iterable[bytes]:
        """Channels that are live again after a time in which messages may have been missed, once."""
        gaps, self._gaps = self._gaps, set()
        return gaps

    def _let_go(self, channel: bytes, state: _Channel, now: float) -> None:
        state.idle_since = None
        if not self._connected or (not state.confirmed and state.unanswered == 0):
            del self._channels[channel]
            return
        state.confirmed = False
        self._ask(UNSUBSCRIBE, channel, state, now)

    def _ask(self, verb: bytes, channel: bytes, state: _Channel, now: float) -> None:
        state.retry_at = None
        if not self._connected:
            return
        command = Command(verb, channel)
        state.unanswered += 1
        state.last_asked = verb
        self._unanswered.append((command, now))
        self._commands.append(command)

    def _answered(self, command: Command) -> bool:
        if not self._unanswered or self._unanswered[0][0] != command:
            return False
        self._unanswered.popleft()
        state = self._channels.get(command.channel)
        if state is not None:
            state.unanswered -= 1
        return True
