"""The codec of packed entries: arrays of temperatures to bytes and back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hourglass.model.entries import ARRAY, ENCODINGS, Encoding, Packed, unpack
from hourglass.model.keys import Partition
from hourglass.model.readings import Reading, Rules
from hourglass.model.readings import decode as decode_plain

Values: TypeAlias = NDArray[np.signedinteger[Any]]

#: The value of a missing reading in an array of thousandths of a degree.
MISSING = np.iinfo(np.int32).min


def encode(milli_f: NDArray[np.int32]) -> tuple[bytes, bytes]:
    """Encode the values with the first encoding that represents all of them exactly; return its
    name and the bytes. Raises ValueError if there is none.

    milli_f: thousandths of a degree, of any shape; MISSING for a missing reading
    """
    gaps = milli_f == MISSING if MISSING in milli_f else None
    present = milli_f if gaps is None else milli_f[~gaps]
    least, most = (int(present.min()), int(present.max())) if present.size else (0, 0)
    for name, encoding in ENCODINGS.items():
        unit, largest = encoding.milli_f, -missing(encoding) - 1
        fits = -largest * unit <= least and most <= largest * unit
        if fits and (unit == 1 or not (present % unit).any()):
            values = milli_f if unit == 1 else milli_f // unit
            if gaps is not None:
                values = np.where(gaps, missing(encoding), values)
            return name, values.astype(_dtype(encoding)).tobytes()
    raise ValueError("a temperature is out of range")  # pragma: no cover


def decode(encoding: Encoding, values: bytes) -> Values:
    """The values as an array, in units of the encoding."""
    return np.frombuffer(values, _dtype(encoding))


def missing(encoding: Encoding) -> int:
    """The value of a missing reading in this encoding."""
    return -(1 << 8 * encoding.width - 1)


def bitmap(positions: Sequence[int], size: int) -> bytes:
    """A bitmap of `size` bits with those at `positions` set; bit 0 is the lowest bit of byte 0."""
    bits = np.zeros(size, np.bool_)
    bits[list(positions)] = True
    return np.packbits(bits, bitorder="little").tobytes()


def masked(fields: Sequence[bytes], at: bytes, *, only: bool) -> list[bytes]:
    """The fields of a packed entry without the values at the bits set in `at`; with `only`, without
    all other values."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    encoding = ENCODINGS[named[b"encoding"]]
    values = decode(encoding, named[ARRAY])
    left = np.where(_bits(at, values.size) == only, values, missing(encoding))
    named[ARRAY] = left.astype(_dtype(encoding)).tobytes()
    return [part for pair in named.items() for part in pair]


def present(packed: Packed) -> list[int]:
    """The positions of the values that are not missing."""
    values = decode(packed.encoding, packed.values)
    return np.flatnonzero(values != missing(packed.encoding)).tolist()


def readings_at(packed: Packed, at: bytes) -> Iterator[Reading]:
    """The readings at the bits set in `at`."""
    values = decode(packed.encoding, packed.values)
    for position in np.flatnonzero(_bits(at, packed.size)).tolist():
        tick, index = divmod(position, packed.devices)
        milli_f = int(values[position]) * packed.encoding.milli_f
        yield Reading(packed.name(index), packed.ts_ms + tick * packed.period_ms, milli_f)


def readings_in(
    partition: Partition, entry_id: bytes, fields: Sequence[bytes], rules: Rules
) -> Iterator[Reading]:
    """The reading of a plain entry, checked against `rules`; or the readings of a packed entry, not
    checked. Raises Unusable."""
    if ARRAY in fields[::2]:
        entry = unpack(partition, entry_id, fields, rules)
        present = decode(entry.encoding, entry.values) != missing(entry.encoding)
        yield from readings_at(entry, np.packbits(present, bitorder="little").tobytes())
    else:
        yield decode_plain(partition, entry_id, fields, rules)


def _bits(at: bytes, size: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(at, np.uint8), count=size, bitorder="little")
    return bits.astype(np.bool_)


def _dtype(encoding: Encoding) -> str:
    return f"<i{encoding.width}"
