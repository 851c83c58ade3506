"""Lua scripts as values: each is one atomic step on one slot, in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, cast

import msgpack


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source, the name Redis caches it under, and the commands that run it by name and
    by source: a user who may only read can run what only reads."""

    name: str
    source: str
    sha: str
    evalsha: str
    eval: str

    @classmethod
    def load(cls, package: str, name: str, *, library: str = "") -> Script:
        """The script in file `scripts/name.lua` of `package`, with the prelude after its first
        line, which is for Redis: `#!lua` and flags; and after that a `library` of functions, if it
        shares some with another script."""
        shebang, _, body = _read(package, name).partition("\n")
        functions = _read("hourglass", library) if library else ""
        source = f"{shebang}\n{_PRELUDE}\n{functions}\n{body}"
        sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
        suffix = "_RO" if "no-writes" in shebang else ""
        return cls(
            name=name,
            source=source,
            sha=sha,
            evalsha=f"EVALSHA{suffix}",
            eval=f"EVAL{suffix}",
        )


def _read(package: str, name: str) -> str:
    return (files(package) / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


_PRELUDE = _read("hourglass", "prelude")


def packed(value: Any) -> bytes:
    """`value` as MessagePack, the way a script's `cmsgpack.unpack` reads it."""
    return cast(Any, msgpack).packb(value, use_bin_type=False)
