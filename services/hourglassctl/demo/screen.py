"""The output of the demo: a live screen in a terminal, otherwise plain lines."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hourglass.model.keys import iso
from hourglass.monitoring.pipeline_status import PipelineStatus
from hourglassctl.render import published_until, screen

_EVENTS_SHOWN = 8
#: Without a terminal, the interval between two lines of progress.
_LINE_S = 5.0


class View:
    """Shows the pipeline status and events, and detects when partitions appear and expire."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._alive: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._rate = 0.0
        self._since = time.monotonic()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, event: str) -> None:
        """Show an event as a line."""
        self._events.append(event)
        if self._live is None:
            self._console.print(event, highlight=False, markup=False, soft_wrap=True)

    def show(self, overview: PipelineStatus) -> None:
        """Update the screen, or print a line of progress when it is due."""
        self._notice_partitions(overview)
        self._measure(overview)
        if self._live:
            lines = Text("\n".join(self._events))
            rate = Text(f"{self._rate:,.0f} readings counted per second\n")
            self._live.update(Group(screen(overview, title=self._title), rate, lines), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_S
            lags = [view.state.lag for view in overview.partitions]
            lag = "unknown" if None in lags else f"{sum(lag or 0 for lag in lags):,}"
            self._console.print(
                f"{iso(overview.instant.now_ms)}  published until {published_until(overview)}, "
                f"lag {lag}, {self._rate:,.0f} readings/s",
                highlight=False,
                soft_wrap=True,
            )

    def _notice_partitions(self, overview: PipelineStatus) -> None:
        now = iso(overview.instant.now_ms)
        alive = {view.state.stream: view.state.shard for view in overview.partitions}
        for stream in alive.keys() - self._alive.keys():
            self.say(f"{now}  {stream} appears on shard {alive[stream]}")
        for stream in self._alive.keys() - alive.keys():
            self.say(f"{now}  {stream} has expired")
        self._alive = alive

    def _measure(self, overview: PipelineStatus) -> None:
        """Update the rate of counted readings per second, over the live partitions."""
        before = sum(self._counted.values())
        for view in overview.partitions:
            self._counted[view.state.stream] = view.counted
        now = time.monotonic()
        elapsed = now - self._since
        if before and elapsed > 0:  # skip readings counted before the first update
            momentary = (sum(self._counted.values()) - before) / elapsed
            self._rate = 0.9 * self._rate + 0.1 * momentary if self._rate else momentary
        self._since = now
