"""What others wrote, for a screen, which it must not command."""

from __future__ import annotations


def printable(text: bytes) -> str:
    characters = text.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else "?" for each in characters)
