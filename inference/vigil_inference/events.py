"""Live updates: worker threads say what changed, browsers listen.

An event names a study and holds nothing else of it: a browser asks the worklist for the rest, so
a missed event costs nothing but a moment.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

_LONGEST_BACKLOG = 256


@dataclass(frozen=True)
class StudyChanged:
    """A study arrived or got a result."""

    study_instance_uid: str


@dataclass(frozen=True)
class RowsReady:
    """Rows of the worklist that changed, written out once for all listeners."""

    text: str


@dataclass(frozen=True)
class Missed:
    """The listener was too slow and must look at everything again."""


@dataclass(frozen=True)
class Closed:
    """The service stops."""


Event = StudyChanged | RowsReady | Missed | Closed


@dataclass(eq=False)
class _Listener:
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Event]
    takes_rows: bool = False
    """Whether it hears of changes as rows, gathered, instead of as single studies."""

    def wants(self, event: Event) -> bool:
        """Whether an event is for this listener."""
        if isinstance(event, StudyChanged):
            return not self.takes_rows
        return self.takes_rows or not isinstance(event, RowsReady)

    def offer(self, event: Event) -> None:
        """Put an event in; runs in the listener's own loop."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            event = event if isinstance(event, Closed) else Missed()
        self.queue.put_nowait(event)


class EventHub:
    """Hands events from any thread to any number of listeners in event loops."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._observers: list[Callable[[str], None]] = []

    def observe(self, observer: Callable[[str], None]) -> None:
        """Let a part of this process hear of changed studies; it must not block or raise."""
        self._observers.append(observer)

    @property
    def has_row_listeners(self) -> bool:
        """Whether anybody takes rows."""
        with self._lock:
            return any(listener.takes_rows for listener in self._listeners)

    def publish(self, event: Event) -> None:
        """Tell every listener; never blocks and never raises."""
        if isinstance(event, StudyChanged):
            for observer in self._observers:
                observer(event.study_instance_uid)
        with self._lock:
            listeners = [one for one in self._listeners if one.wants(event)]
        for listener in listeners:
            try:
                listener.loop.call_soon_threadsafe(listener.offer, event)
            except RuntimeError:  # its loop was closed under us
                with self._lock:
                    self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self.publish(Closed())

    @asynccontextmanager
    async def listen(self, *, rows: bool = False) -> AsyncIterator[AsyncIterator[Event]]:
        """Listen from now on, until the hub closes; ``rows`` takes gathered rows of the list."""
        listener = _Listener(asyncio.get_running_loop(), asyncio.Queue(_LONGEST_BACKLOG), rows)
        with self._lock:
            self._listeners.add(listener)
        try:
            yield self._events(listener)
        finally:
            with self._lock:
                self._listeners.discard(listener)

    async def _events(self, listener: _Listener) -> AsyncIterator[Event]:
        while not self._closed:
            event = await listener.queue.get()
            if isinstance(event, Closed):
                return
            yield event
