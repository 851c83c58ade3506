"""Log lines: readable or JSON, one for each event that matters, few of what repeats."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from opentelemetry import trace

from hourglass.errors import Misconfigured
from hourglass.settings import LogFormat

#: What a line may say of its event besides the message, given as `extra`.
FACTS = ("worker", "partition", "shard", "hour", "consumer", "trace_id")
#: Of one kind of line so many in so many seconds; the others are counted, and told with the next.
BURST, PERIOD_S = 50, 10.0


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        message = record.getMessage()
        # Without what the message says anyway.
        facts = " ".join(f"{k}={v}" for k, v in _facts(record).items() if v not in message)
        line = f"{stamp} {record.levelname.lower():7} {message}{f' [{facts}]' if facts else ''}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def __init__(self, **fixed: str) -> None:
        super().__init__()
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **self._fixed,
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(log_format: LogFormat, level: str, **fixed: str) -> None:
    """Log lines to standard error; `fixed` goes into every JSON line. Raises Misconfigured."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level.lower() not in levels:
        raise Misconfigured(f"--log-level is {level!r}: give one of {', '.join(levels)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(_Json(**fixed) if log_format is LogFormat.JSON else _Text())
    logging.basicConfig(level=levels[level.lower()], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # it tells of its selectors


def _facts(record: logging.LogRecord) -> dict[str, str]:
    given = {name: str(vars(record).get(name, "")) for name in FACTS}
    facts = {name: fact for name, fact in given.items() if fact}
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in facts:
        facts["trace_id"] = trace.format_trace_id(context.trace_id)
    return facts


class Repeats(logging.Filter):
    """Lets BURST lines of a kind pass in PERIOD_S; a kind is what was written in one place, and of
    one worker where the line is about one."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._seen: dict[tuple[str, int, str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        worker = str(vars(record).get("worker", ""))
        kind = (record.name, record.levelno, str(record.msg), worker)
        now = self._monotonic()
        since, count = self._seen.get(kind, (now, 0))
        if now - since >= PERIOD_S:
            left_out, since, count = count - BURST, now, 0
            if left_out > 0:
                record.msg = f"{record.getMessage()} (and {left_out} more like it)"
                record.args = ()
        self._seen[kind] = (since, count + 1)
        return count < BURST
