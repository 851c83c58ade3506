"""Fault points: the places in the pipeline's steps where a test or a drill makes a process fail.

    HOURGLASS_FAULT=commit.after:kill@3,seal.before:stop

means: SIGKILL yourself when the third commit has been done, and SIGSTOP before the first seal. Each
happens once. Every script has a point before and after its call, named after it; `load` is the
averages consumer's transaction. What a fault does:

    kill        SIGKILL to the own process: no line of code runs after it
    stop        SIGSTOP to the own process, until somebody sends SIGCONT
    lose-reply  the server has done the work, and the caller sees the connection time out

Without the variable `reach` is a function that does nothing, chosen at the start. It is no option:
no service shows it in its help, and no chart sets it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import NamedTuple

import redis

from hourglass.errors import Misconfigured

log = logging.getLogger(__name__)

VARIABLE = "HOURGLASS_FAULT"

SCRIPTS = (
    "divide", "register", "ingest", "open", "commit", "seal", "publish", "reap",
)  # fmt: skip
LOAD = ("load.before", "load.before-commit", "load.after-commit", "load.after-ack")
POINTS = (*(f"{script}.{when}" for script in SCRIPTS for when in ("before", "after")), *LOAD)


class Fault(NamedTuple):
    """What happens at the `passage`-th time (from 1) that a process comes by."""

    action: str
    passage: int


def kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop(_point: str) -> None:
    # To this very thread: sent to the process, it may reach another, and this one goes on.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def lose_reply(point: str) -> None:
    raise redis.TimeoutError(f"the reply was lost at fault point {point}")


ACTIONS: Mapping[str, Callable[[str], None]] = {
    "kill": kill,
    "stop": stop,
    "lose-reply": lose_reply,
}


def parse(text: str) -> dict[str, list[Fault]]:
    """The faults in `POINT:ACTION[@PASSAGE][,…]`, by point. Raises Misconfigured."""
    faults: dict[str, list[Fault]] = defaultdict(list)
    for each in filter(None, text.split(",")):
        point, _, rest = each.strip().partition(":")
        action, _, passage = rest.partition("@")
        if point not in POINTS:
            raise Misconfigured(f"{VARIABLE}: no fault point {point!r}; there are {_list(POINTS)}")
        if action not in ACTIONS:
            raise Misconfigured(
                f"{VARIABLE}: {point} cannot {action!r}; give one of {_list(ACTIONS)}"
            )
        if action == "lose-reply" and (point in LOAD or not point.endswith(".after")):
            raise Misconfigured(
                f"{VARIABLE}: no reply can be lost at {point}: give the point after a script"
            )
        if passage and not (passage.isascii() and passage.isdigit() and int(passage)):
            raise Misconfigured(f"{VARIABLE}: {passage!r} is no passage: give 1 for the first")
        faults[point].append(Fault(action, int(passage or 1)))
    return faults


def bind(text: str) -> Callable[[str], None]:
    """What is to be called at each point with its name. Raises Misconfigured."""
    faults = parse(text)
    if not faults:
        return _nothing
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


def _nothing(_point: str) -> None:
    pass


def _list(names: tuple[str, ...] | Mapping[str, object]) -> str:
    return ", ".join(names)


def _bind_from_environment() -> Callable[[str], None]:
    try:
        return bind(os.environ.get(VARIABLE, ""))
    except Misconfigured as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


#: Called with the name of each point that is passed.
reach = _bind_from_environment()
