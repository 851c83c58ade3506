"""The pipeline that this process's tests belong to.

Each worker of pytest-xdist has a name of its own, so that several may share a cluster. All names
end in the same CRC16 as the default one: a key is in the same slot, and so on the same shard,
whichever worker a test runs in.
"""

from __future__ import annotations

import os
from binascii import crc_hqx
from itertools import count

from hourglass.model.keys import PIPELINE, Keyspace


def beside(prefix: str) -> Keyspace:
    """Another pipeline, whose name begins so and whose keys are in the slots of the default's."""
    wanted = crc_hqx(PIPELINE.encode(), 0)
    begun = crc_hqx(prefix.encode(), 0)
    number = next(each for each in count() if crc_hqx(b"%d" % each, begun) == wanted)
    return Keyspace(f"{prefix}{number}")


KEYS = beside(f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-")
