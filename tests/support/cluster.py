"""A Redis Cluster whose nodes a test may kill, pause and restart, and whose slots it may move."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, cast

from redis.crc import key_slot

from hourglassctl.local import bootstrap, embedded
from hourglassctl.local.bootstrap import HOST
from hourglassctl.local.embedded import START_TIMEOUT_S

#: Keys of a slot that move in one step.
_KEYS_AT_ONCE = 100
#: A day of readings is one key, and stands still while it moves.
_MOVE_S = 60.0


class Node(embedded.Node):
    """One server, to do harm to."""

    paused = False

    @property
    def responds(self) -> bool:
        """Whether the process exists and is not paused."""
        return self.alive and not self.paused

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it lives and start it on the same port; returns when it answers.

        Without persistence it comes back empty. A master serves again two seconds later at the
        earliest: Redis holds it back (CLUSTER_WRITABLE_DELAY).
        """
        self.kill()
        self.spawn()
        self.await_answer(until=time.monotonic() + START_TIMEOUT_S)

    def spawn(self) -> None:
        self.paused = False
        super().spawn()


def _slot(key: str) -> int:
    return key_slot(key.encode())


class EmbeddedCluster(embedded.EmbeddedCluster):
    node_type: ClassVar[type[embedded.Node]] = Node

    @property
    def nodes(self) -> Sequence[Node]:
        return cast("list[Node]", self._nodes)

    def node_at(self, port: int) -> Node:
        """The node on that port, which is how a client names it."""
        return next(node for node in self.nodes if node.port == port)

    def master_of(self, key: str) -> Node:
        """The node that holds `key` now, as the living ones agree."""
        return self.node_at(self._holders()[_slot(key)])

    def replicas_of(self, master: Node) -> list[Node]:
        """The living nodes that follow it now."""
        found: list[Node] = []
        for node in self._living:
            with bootstrap.client(node.port) as client:
                role = cast(Any, client).execute_command("ROLE")
            if role[0] == b"slave" and role[2] == master.port:
                found.append(node)
        return found

    def move_slot(self, key: str, to: Node) -> None:
        """Move the slot of `key`, with all that is in it, to another master while it is in use."""
        holders = self._holders()
        slot = _slot(key)
        _move_slot(slot, holders[slot], to.port, sorted(set(holders.values())))

    def restart(self) -> None:
        """Kill every node and start them all again; returns when the cluster is whole.

        Without persistence it comes back empty. Raises ClusterNotFormed.
        """
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.spawn()
        until = time.monotonic() + START_TIMEOUT_S
        for node in self.nodes:
            node.await_answer(until=until)
        self.await_whole()

    def await_whole(self) -> None:
        """Until every node sees the cluster up and every replica is in step with its master.

        Raises ClusterNotFormed.
        """
        members = [node.member for node in self.nodes]
        bootstrap.await_whole(members, until=time.monotonic() + START_TIMEOUT_S)

    @property
    def _living(self) -> list[Node]:
        return [node for node in self.nodes if node.responds]

    def _holders(self) -> dict[int, int]:
        """The port of the master of each slot, as the first living node sees it."""
        with bootstrap.client(self._living[0].port) as client:
            ranges = cast(Any, client).execute_command("CLUSTER SLOTS")
        return {
            slot: holders[0][1]
            for first, last, *holders in ranges
            for slot in range(first, last + 1)
        }


def _move_slot(slot: int, source: int, target: int, masters: Sequence[int]) -> None:
    """Move a slot with its keys from the master on port `source` to the one on `target`, in use.

    Clients are redirected meanwhile (ASK, MOVED), or have to try again (TRYAGAIN). The
    steps are those of https://redis.io/docs/latest/commands/cluster-setslot/.
    """
    with ExitStack() as stack:
        clients = {
            port: stack.enter_context(cast(Any, bootstrap.client(port, timeout_s=_MOVE_S)))
            for port in masters
        }
        ids = {
            port: each.execute_command("CLUSTER MYID").decode() for port, each in clients.items()
        }
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        while keys := clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            clients[source].execute_command(
                "MIGRATE", HOST, target, "", 0, int(_MOVE_S * 1000), "KEYS", *keys
            )
        # The target first: should the source fail now, the slot still has an owner.
        for port in sorted(masters, key=lambda port: (port != target, port != source)):
            clients[port].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
