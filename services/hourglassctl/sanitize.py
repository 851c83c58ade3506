"""Sanitizes untrusted text for a terminal, so that it contains no control sequences."""

from __future__ import annotations


def printable(text: bytes) -> str:
    """The text with each non-printable character replaced by a question mark."""
    characters = text.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else "?" for each in characters)
