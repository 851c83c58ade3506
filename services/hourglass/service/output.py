"""Standard output: its encoding, and the exit of a program that cannot write to it."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

from hourglass.errors import HourglassError

#: Replacements of characters that the output's encoding lacks; others become a question mark.
_PLAINER = {"█": "#", "▒": "+", "·": ".", "°": "", "…": "...", "→": "->"}
#: The exit status that a shell reports for a program killed by SIGPIPE.
_READER_GONE = 128 + 13


class OutputFailed(HourglassError):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_gone = error.errno == errno.EPIPE
        if self.reader_gone:
            self.exit_code = _READER_GONE


class _Descriptor(io.FileIO):
    """Raises OutputFailed, to distinguish errors of standard output from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError as error:
            raise OutputFailed(error) from error


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_PLAINER.get(each, "?") for each in wrong), error.end


def set_up_output() -> None:
    """Make standard output raise OutputFailed and replace characters that its encoding lacks. Call
    it once per process. An output that a test has replaced does not change."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # it was closed
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    before = sys.stdout
    if before is not sys.__stdout__ or not isinstance(before, io.TextIOWrapper):
        return
    before.flush()
    codecs.register_error("plainer", _plainer)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(before.fileno(), "wb", closefd=False)),
        encoding=before.encoding,
        errors="plainer",
        line_buffering=before.line_buffering or before.write_through,
    )


def give_up_output() -> None:
    """Discard what is not written yet; Python would otherwise try to flush it at exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
