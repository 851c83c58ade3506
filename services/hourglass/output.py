"""Standard output: how it is written, and how a program ends when it cannot be."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

from hourglass.errors import HourglassError

#: What a terminal or a file that is not UTF-8 gets in place of a mark; else a question mark.
_PLAINER = {"█": "#", "▒": "+", "·": ".", "°": "", "…": "...", "→": "->"}
#: As a shell has it of a program whose reader has gone.
_READER_GONE = 128 + 13


class OutputFailed(HourglassError):
    """Standard output takes no more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_gone = error.errno == errno.EPIPE
        if self.reader_gone:
            self.exit_code = _READER_GONE


class _Descriptor(io.FileIO):
    """Raises OutputFailed, which is distinct from the failure of any other file."""

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
    """For the whole process: standard output raises OutputFailed, and has plainer marks where it
    is not UTF-8. A test's own stays as it is."""
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
    """What is not written stays so: Python would try once more at the end."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
