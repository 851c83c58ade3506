"""A Redis Cluster whose nodes' clocks a test may set, each apart from the machine's."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self, cast

from hourglassctl.local import embedded
from tests.support import cluster

_SOURCE = Path(__file__).with_suffix(".c")
_FILE = "clock-offset"
_NOT_AHEAD = struct.pack("=q", 0)


class LeapingNode(cluster.Node):
    """One server, whose clock leaps on demand."""

    library: ClassVar[Path]

    def spawn(self) -> None:
        file = self._directory / _FILE
        if not file.exists():
            file.write_bytes(_NOT_AHEAD)
        self.environment = {"LD_PRELOAD": str(self.library)}
        super().spawn()

    def set_clock(self, ahead_s: float) -> None:
        """Its wall clock is ahead of the machine's by so much from now on."""
        with (self._directory / _FILE).open("r+b") as file:
            file.write(struct.pack("=q", round(ahead_s * 1000)))


class LeapingCluster(cluster.EmbeddedCluster):
    node_type: ClassVar[type[embedded.Node]] = LeapingNode

    def __enter__(self) -> Self:
        self._compiled = tempfile.TemporaryDirectory(prefix="hourglass-clock-")
        LeapingNode.library = Path(self._compiled.name) / "leaping_clock.so"
        # Debian has it in gcc and libc6-dev.
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", LeapingNode.library, _SOURCE]
        subprocess.run(command, check=True)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[arg-type]
        self._compiled.cleanup()

    def leaping(self, key: str) -> LeapingNode:
        """The master that holds `key`."""
        return cast(LeapingNode, self.master_of(key))

    def leaping_nodes(self) -> Sequence[LeapingNode]:
        return cast("Sequence[LeapingNode]", self.nodes)
