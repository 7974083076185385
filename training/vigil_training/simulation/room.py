"""The reading room as a discrete-event simulation: when is each film read?

One SimPy process lets films arrive, one a shift sends its readers, and one a reader reads; a film
is no process but an entry in a heap. So a film costs two events, and a year of 200,000 films half
a second, where a process a film with a priority resource takes three and a half times as long.
"""

from collections import deque
from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from vigil_training.simulation.scenario import DAY_SECONDS, Shift

_Events = Generator[simpy.Event, None, None]


class _Idle(NamedTuple):
    """A reader who waits for a film, and when the shift ends."""

    wake: simpy.Event
    end: float


def reading_starts(
    arrivals: NDArray[np.float64],
    ranks: NDArray[np.int8],
    work: NDArray[np.float64],
    shifts: Sequence[Shift],
    delay_seconds: float = 0.0,
) -> NDArray[np.float64]:
    """Return (n,) when the reading of each film begins, in seconds.

    A free reader takes the film of the lowest rank, and of these the one that came first; nobody
    breaks off a film that was begun. Readers stay until all films are read.

    Parameters
    ----------
    arrivals
        (n,) seconds from midnight of a Monday, ascending.
    ranks
        (n,) 0 is read first.
    work
        (n,) what a film takes, in units of a reader's mean time.
    shifts
        Who reads when.
    delay_seconds
        From a film's arrival until it stands in the list.
    """
    room = _Room(arrivals, ranks, work, delay_seconds)
    for shift in shifts:
        if shift.readers and shift.weekdays:
            room.env.process(room.keep(shift))
    if arrivals.size:
        room.env.process(room.receive())
        room.env.run(until=room.all_read)
    return np.asarray(room.starts)


class _Room:
    """The state that the processes share."""

    def __init__(
        self,
        arrivals: NDArray[np.float64],
        ranks: NDArray[np.int8],
        work: NDArray[np.float64],
        delay_seconds: float,
    ) -> None:
        self.env = simpy.Environment()
        self.all_read = self.env.event()
        # Lists: reading one element of an array costs more than the rest of a step.
        self._listed: list[float] = (arrivals + delay_seconds).tolist()
        self._ranks: list[int] = ranks.tolist()
        self._work: list[float] = work.tolist()
        self.starts: list[float] = [0.0] * len(self._listed)
        self._waiting: list[tuple[int, int]] = []
        self._idle: deque[_Idle] = deque()
        self._unread = len(self._listed)

    def receive(self) -> _Events:
        """Put each film into the list when it comes, and wake the reader who is idle longest."""
        env, waiting, idle, ranks = self.env, self._waiting, self._idle, self._ranks
        for film, time in enumerate(self._listed):
            yield env.timeout(time - env.now)
            heappush(waiting, (ranks[film], film))
            if idle:
                idle.popleft().wake.succeed()

    def keep(self, shift: Shift) -> _Events:
        """Send a shift's readers, day after day."""
        env, seconds = self.env, 3600 / shift.films_an_hour
        if shift.is_round_the_clock:
            self._send(shift.readers, np.inf, seconds)
            return
        day = 0
        while True:
            if day % 7 in shift.weekdays:
                start = day * DAY_SECONDS + shift.start_hour * 3600
                yield env.timeout(start - env.now)
                end = start + shift.hours * 3600
                self._send(shift.readers, end, seconds)
                yield env.timeout(end - env.now)
                self._send_home()
            day += 1

    def _send(self, readers: int, end: float, seconds: float) -> None:
        for _ in range(readers):
            self.env.process(self._read(end, seconds))

    def _send_home(self) -> None:
        """Wake the idle readers whose shift is over, so that no film wakes them later."""
        for idle in [idle for idle in self._idle if idle.end <= self.env.now]:
            self._idle.remove(idle)
            idle.wake.succeed()

    def _read(self, end: float, seconds: float) -> _Events:
        """Read film after film until the shift's end."""
        env, waiting = self.env, self._waiting
        while env.now < end:
            if not waiting:
                idle = _Idle(env.event(), end)
                self._idle.append(idle)
                yield idle.wake
                continue
            _, film = heappop(waiting)
            self.starts[film] = env.now
            self._unread -= 1
            if not self._unread:
                self.all_read.succeed()
            yield env.timeout(self._work[film] * seconds)
        if waiting and self._idle:
            # Woken by a film at the very end of the shift: another reader takes it.
            self._idle.popleft().wake.succeed()
