"""Shows the averages in the terminal, in the format that the exercise specifies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

from hourglass.cluster.client import Cluster
from hourglass.errors import Unreachable
from hourglass.model.averages import HourlyAverage
from hourglass.model.keys import AVERAGES_KEPT, iso
from hourglass.model.readings import MILLI
from hourglass.monitoring.tail import Tail

#: Time that one read blocks for the next average; Ctrl-C is handled between reads.
_BLOCK_MS = 500
_RETRY_S = 0.2


def shown(
    cluster: Cluster, check: Callable[[], None], *, follow: bool, as_json: bool
) -> Iterator[str]:
    """Yield a line for each average on the stream; with `follow` also for each new one, until
    `check` raises.

    Raises Unreachable. With `follow` it retries once it has read the stream, and shows no average
    twice.
    """
    for average in _averages(cluster, check, follow=follow):
        yield as_line_of_json(average) if as_json else average.line


def as_line_of_json(average: HourlyAverage) -> str:
    """The average as JSON, with the field names of the warehouse and the API."""
    return json.dumps(
        {
            "hour": iso(average.start_ms),
            "average_temp_f": average.mean_milli_f / MILLI,
            "min_temp_f": average.min_milli_f / MILLI,
            "max_temp_f": average.max_milli_f / MILLI,
            "observations": average.count,
            "devices": average.devices,
            "late": average.late,
            "sealed_by": average.sealed_by,
        }
    )


def _averages(
    cluster: Cluster, check: Callable[[], None], *, follow: bool
) -> Iterator[HourlyAverage]:
    stream = cluster.keyspace.averages
    known: Sequence[HourlyAverage] | None = None
    while True:
        try:
            with closing(cluster.link(stream)) as link:
                feed = Tail(link, stream)
                while known is None or follow:
                    check()
                    news = feed.next(_BLOCK_MS)
                    before = known or ()
                    known = news.added_to(before, AVERAGES_KEPT)
                    yield from (each for each in news.averages if each not in before)
                return
        except Unreachable:
            if known is None or not follow:
                raise
            time.sleep(_RETRY_S)
            with suppress(Unreachable):
                cluster.refresh_topology()
