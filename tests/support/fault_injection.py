"""Fault points: the places in the pipeline's steps where a test or a drill makes a process fail.

    HOURGLASS_FAULT=commit.after:kill@3,seal.before:stop \
        python -m tests.support.fault_injection aggregator --name unlucky

runs the aggregator with fault points around its steps: SIGKILL yourself when the third commit is
done, and SIGSTOP before the first seal. Each happens once. Every script has a point before and
after its call, named after it; `load` is the averages consumer's transaction. What a fault does:

    kill        SIGKILL to the own process: no line of code runs after it
    stop        SIGSTOP to the own process, until it gets SIGCONT
    fail        an error that no code expects
    lose-reply  the server has done the work, and the caller's connection times out

The services know nothing of it: `install` wraps the few methods that every step passes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import redis

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script
from hourglass.errors import ConfigurationError

log = logging.getLogger(__name__)

MODULE = "tests.support.fault_injection"
VARIABLE = "HOURGLASS_FAULT"

SCRIPTS = (
    "divide", "register", "ingest", "open", "commit", "seal", "publish", "reap",
)  # fmt: skip
LOAD = ("load.before", "load.before-commit", "load.after-commit", "load.after-ack")
POINTS = (*(f"{script}.{when}" for script in SCRIPTS for when in ("before", "after")), *LOAD)

#: Called with the name of each point that is passed.
Reach = Callable[[str], None]


class Fault(NamedTuple):
    """What happens at the `passage`-th time (from 1) that a process passes the point."""

    action: str
    passage: int


def kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop(_point: str) -> None:
    # To this very thread: sent to the process, it may reach another, and this one goes on.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def fail(point: str) -> None:
    raise ValueError(f"a fault at {point}")


def lose_reply(point: str) -> None:
    raise redis.TimeoutError(f"the reply was lost at fault point {point}")


ACTIONS: Mapping[str, Callable[[str], None]] = {
    "kill": kill,
    "stop": stop,
    "fail": fail,
    "lose-reply": lose_reply,
}


def parse(text: str) -> dict[str, list[Fault]]:
    """The faults in `POINT:ACTION[@PASSAGE][,…]`, by point. Raises ConfigurationError."""
    faults: dict[str, list[Fault]] = defaultdict(list)
    for each in filter(None, text.split(",")):
        point, _, rest = each.strip().partition(":")
        action, _, passage = rest.partition("@")
        if point not in POINTS:
            raise ConfigurationError(
                f"{VARIABLE}: no fault point {point!r}; there are {_list(POINTS)}"
            )
        if action not in ACTIONS:
            raise ConfigurationError(
                f"{VARIABLE}: {point} cannot {action!r}; give one of {_list(ACTIONS)}"
            )
        if action == "lose-reply" and (point in LOAD or not point.endswith(".after")):
            raise ConfigurationError(
                f"{VARIABLE}: no reply can be lost at {point}: give the point after a script"
            )
        if passage and not (passage.isascii() and passage.isdigit() and int(passage)):
            raise ConfigurationError(f"{VARIABLE}: {passage!r} is no passage: give 1 for the first")
        faults[point].append(Fault(action, int(passage or 1)))
    return faults


def bind(text: str) -> Reach:
    """What makes the faults in `text` happen. Raises ConfigurationError."""
    faults = parse(text)
    passages: Mapping[str, Iterator[int]] = {point: count(1) for point in faults}

    def reach(point: str) -> None:
        if point not in faults:
            return
        passage = next(passages[point])
        for fault in faults[point]:
            if fault.passage == passage:
                log.warning("fault point %s, passage %d: %s", point, passage, fault.action)
                ACTIONS[fault.action](point)

    return reach


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names)


def install(reach: Reach, patch: Callable[[type, str, Any], None] = setattr) -> None:
    """Pass the points of every script, in this process, through `reach`.

    A reply is lost where the connection would have lost it: within what turns the client's errors
    into the pipeline's.
    """
    begin, finish, run = Link.begin, Link.finish, Cluster.run
    # A link's replies come in the order in which its scripts were begun.
    begun: WeakKeyDictionary[Link, deque[Script]] = WeakKeyDictionary()

    def begin_script(self: Link, script: Script, *call: Any) -> None:
        reach(f"{script.name}.before")
        begin(self, script, *call)
        begun.setdefault(self, deque()).append(script)

    def finish_script(self: Link) -> Any:
        reply = finish(self)
        script = begun[self].popleft()
        with cast(Any, self)._severing():
            reach(f"{script.name}.after")
        return reply

    def run_script(self: Cluster, script: Script, *call: Any) -> Any:
        reach(f"{script.name}.before")
        reply = run(self, script, *call)
        with cast(Any, self)._reaching():
            reach(f"{script.name}.after")
        return reply

    patch(Link, "begin", begin_script)
    patch(Link, "finish", finish_script)
    patch(Cluster, "run", run_script)


def install_load(reach: Reach, patch: Callable[[type, str, Any], None] = setattr) -> None:
    """The points of the averages consumer's transaction."""
    from averages_consumer.consumer import Consumer
    from averages_consumer.warehouse import Warehouse

    # By name, as the methods are the consumer's own affair.
    consumer, warehouse = cast(Any, Consumer), cast(Any, Warehouse)
    load, write, acknowledge = consumer._write, warehouse._write, consumer._acknowledge

    def load_rows(self: Consumer, *call: Any) -> None:
        reach("load.before")
        load(self, *call)
        reach("load.after-commit")

    def write_rows(self: Warehouse, *call: Any) -> None:
        write(self, *call)
        reach("load.before-commit")

    def acknowledge_entries(self: Consumer, *call: Any) -> None:
        acknowledge(self, *call)
        reach("load.after-ack")

    patch(Consumer, "_write", load_rows)
    patch(Warehouse, "_write", write_rows)
    patch(Consumer, "_acknowledge", acknowledge_entries)


def main() -> None:
    """Run a service, named by its package, with the faults that the environment asks for."""
    service, *arguments = sys.argv[1:]
    try:
        reach = bind(os.environ.get(VARIABLE, ""))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    install(reach)
    if service == "averages_consumer":
        install_load(reach)
    sys.argv[1:] = arguments
    import_module(f"{service}.__main__").main()


if __name__ == "__main__":
    main()
