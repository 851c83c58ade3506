"""Logging: text or JSON lines, with a rate limit on repeated lines."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from opentelemetry import trace

from hourglass.errors import ConfigurationError
from hourglass.service.config import LogFormat

#: The structured fields of a log line, passed as `extra`.
FACTS = ("worker", "partition", "shard", "hour", "consumer", "trace_id")
#: Rate limit of lines from one call site: the number of lines, and the period.
BURST, PERIOD_S = 50, 10.0


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        message = record.getMessage()
        # Omit fields whose value is in the message already.
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
    """Log to standard error. Raises ConfigurationError.

    fixed: fields of every JSON line
    """
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level.lower() not in levels:
        raise ConfigurationError(f"--log-level is {level!r}: give one of {', '.join(levels)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(_Json(**fixed) if log_format is LogFormat.JSON else _Text())
    logging.basicConfig(level=levels[level.lower()], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # it logs its selector at debug level


def _facts(record: logging.LogRecord) -> dict[str, str]:
    given = {name: str(vars(record).get(name, "")) for name in FACTS}
    facts = {name: fact for name, fact in given.items() if fact}
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in facts:
        facts["trace_id"] = trace.format_trace_id(context.trace_id)
    return facts


class Repeats(logging.Filter):
    """Passes at most BURST lines per call site and worker in PERIOD_S. The next line after that
    gives the number of lines suppressed."""

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
            suppressed, since, count = count - BURST, now, 0
            if suppressed > 0:
                record.msg = f"{record.getMessage()} ({suppressed} similar lines suppressed)"
                record.args = ()
        self._seen[kind] = (since, count + 1)
        return count < BURST
