"""A script that is given wrong arguments, or finds what no script put there, refuses before it has
changed anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from typing import Any, NamedTuple, cast

import msgpack
import pytest

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script, packed
from hourglass.errors import CorruptKey, Unreachable
from tests.support.every_script import SCRIPTS, use_every_script
from tests.support.pipeline import Pipeline

#: No whole numbers.
NUMBERS = ("", "soon", "-1", "1.5", "1e3", "1" * 17)
LANES = ("x", "-1", "1;2", "1,,2", ",1")
NO_ARRAY = (b"", b"\xc1", packed("text"), packed(7))


class Call(NamedTuple):
    """What a script is given, and what is wrong with it."""

    wrong: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]


#: Of arguments that are text or numbers: by their place from 1, as the script has it.
WRONG: Mapping[str, Mapping[int, Iterable[str]]] = {
    "divide": {1: LANES, 2: LANES, 3: NUMBERS},
    "register": {1: NUMBERS, 2: ("",)},
    "ingest": {
        1: ("", ":entries"),
        2: (*NUMBERS, "0"),
        3: (*NUMBERS, "1", "99"),
        4: NUMBERS,
        5: NUMBERS,
        6: (*NUMBERS, "1"),
        7: (*NUMBERS, "0", "1", "3"),
        8: NUMBERS,
        10: NUMBERS,
    },
    "open": {
        1: ("",),
        2: NUMBERS,
        3: NUMBERS,
        4: ("", "1" * 23, "1" * 25, "2" * 24),
        5: NUMBERS,
    },
    "commit": {4: NUMBERS, 5: NUMBERS, 6: NUMBERS},
    "seal": {
        1: ("",),
        2: (*NUMBERS, "25"),
        4: NUMBERS,
        5: NUMBERS,
        6: NUMBERS,
        7: NUMBERS,
        8: NUMBERS,
        9: ("", "1" * 23, "1" * 25, "2" * 24),
    },
    "publish": {
        1: (*NUMBERS, "1"),
        2: (*NUMBERS, "0"),
        3: ("", "x", "1.5", "007", "-0", "1" * 19),
        4: ("x", "-1"),
        5: (*NUMBERS, "0"),
        6: (*NUMBERS, "0"),
    },
    "reap": {2: NUMBERS},
    "first": {1: ("", "x"), 2: ("", "x")},
    "redrive": {1: ("", "x", "1", "-"), 2: NUMBERS},
    "rewind": {1: (*NUMBERS, "1")},
    "snapshot": {},
    "removed": {},
    "fields": {1: NUMBERS, 2: ("", "x", "-")},
    "publication": {},
}
#: Those that take one argument more, or two.
OPEN_ENDED = {"register": 0, "ingest": 2, "fields": 0, "first": 2}


def changed(value: Any, path: Sequence[int], part: Any) -> Any:
    """A copy of nested lists with another part at one place."""
    if not path:
        return part
    copy = deepcopy(value)
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = part
    return copy


def wrong_readings(_valid: Any) -> Iterator[Any]:
    """Batches of an ingest that says there are two readings."""
    whole = ["porch", "0", "50", "porch", "1000", "50"]
    yield from ([], [[], []], [whole], [whole, "x"], [whole[:-1], []], [[*whole, *whole], []])
    yield from ([[*whole[:-1], ["50"]], []], ["x", []], [[], [[]]], [[], ["x"]], [[], [["device"]]])
    yield [[], [["device", ["pod"]]]]
    yield [[], [["field", "value"] * 5000]]
    yield [whole, [["temps_f", "ab"], ["field", "value"] * 5000]]
    yield [[], [["device", "pod", "temps_f", "ab"]]]  # one at most


TALLY: Mapping[int, Sequence[Any]] = {
    0: (-1, 24, 0.5, "0", [0]),
    1: (0, -1, 1.5, "1", 1e300, 2**60),
    2: (50_000, "", "x", "1.5", "007", "-0", "1" * 19),
    3: (1.5, "x", -(2**60), 1 << 40),  # the last is above the greatest
    4: (1.5, "x", 2**60, -(1 << 40)),
    5: ("x", [b"0"], [b"0", 1], [b"0", [1]], [[b"0"], b"\x01"]),
}
REJECT: Mapping[int, Sequence[Any]] = {
    0: (["1-0"],),
    2: ([b"fields"],),
    3: (0, -1, 1.5, "x", 1e300),
    4: (["at"],),
}


def wrong_tallies(valid: Any) -> Iterator[Any]:
    """Of a batch whose last two parts are tallies and rejects."""
    tallies = len(valid) - 2
    rejects = tallies + 1
    for place, parts in TALLY.items():
        for part in parts:
            yield changed(valid, [tallies, 0, place], part)
    for part in ("x", [], ["x"], [valid[tallies][0][:5]], valid[tallies] * 2):
        yield changed(valid, [tallies], part)
    reject = [b"1-0", b"reason", b"", 1, b""]
    for place, parts in REJECT.items():
        for part in parts:
            yield changed(valid, [rejects], [changed(reject, [place], part)])
    for part in ("x", ["x"], [[]], [reject[:4]], [[*reject, b"more"]]):
        yield changed(valid, [rejects], part)
    yield valid[:-1]


def wrong_commits(valid: Any) -> Iterator[Any]:
    yield from wrong_tallies(valid)
    first, second = valid[0]
    for ids in ("x", [], [[first], second], [first, first], [first, second] * 2, ["0-1"] * 8000):
        yield changed(valid, [0], ids)
    for trace in (1, ["trace"], {"trace": "parent"}):
        yield [*valid, trace]


PAYLOADS: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "ingest": wrong_readings,
    "commit": wrong_commits,
    "redrive": wrong_tallies,
}


def wrong_calls(
    name: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]
) -> Iterator[Call]:
    """Whatever can be wrong with a valid call of a script."""
    yield Call("a key too few", keys[:-1], arguments)
    yield Call("a key too many", [*keys, keys[-1]], arguments)
    if arguments:
        yield Call("an argument too few", keys, arguments[:-1])
    if more := OPEN_ENDED.get(name, 1):
        yield Call("arguments too many", keys, [*arguments, *["more"] * more])
    for number, values in WRONG[name].items():
        for value in values:
            wrong = [*arguments[: number - 1], value, *arguments[number:]]
            yield Call(f"argument {number} is {value!r}", keys, wrong)
    if name in PAYLOADS:
        (place,) = (n for n, part in enumerate(arguments) if isinstance(part, bytes) and n > 1)
        valid = cast(Any, msgpack).unpackb(arguments[place], raw=True)
        for payload in (*NO_ARRAY, *map(packed, PAYLOADS[name](valid))):
            wrong = [*arguments[:place], payload, *arguments[place + 1 :]]
            yield Call(f"the batch is {payload[:200]!r}", keys, wrong)


def everything(cluster: Cluster) -> dict[bytes, tuple[bytes, int]]:
    """What every key holds, and when it expires."""
    return {
        key: (cluster.call("DUMP", key), cluster.call("PEXPIRETIME", key))
        for key in cluster.keys("*")
    }


def refuses(cluster: Cluster, script: Script, call: Call) -> None:
    """Run it, and see that nothing is changed."""
    before = everything(cluster)
    with closing(cluster.link(call.keys[0] if call.keys else "any")) as link:
        try:
            # As a producer or an aggregator sends it, and with no other way to answer.
            reply = link.call(
                script.eval, script.source, len(call.keys), *call.keys, *call.arguments
            )
        except CorruptKey:
            reply = None
    assert reply is None, f"{script.name} takes it that {call.wrong}"
    assert everything(cluster) == before, f"{script.name} has changed something though {call.wrong}"


def before_each(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Script, Sequence[str], Sequence[str | bytes | int]], None],
) -> None:
    """Have `act` see each call of a script before it is sent."""

    def seen(run: Any) -> Any:
        def see(
            self: object,
            script: Script,
            keys: Sequence[str],
            arguments: Sequence[str | bytes | int],
        ) -> Any:
            act(script, keys, arguments)
            return run(self, script, keys, arguments)

        return see

    monkeypatch.setattr(Cluster, "run", seen(Cluster.run))
    monkeypatch.setattr(Link, "begin", seen(Link.begin))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_refuses_wrong_arguments_before_it_has_changed_anything(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert name in WRONG, "it is not told here what its arguments may not be"
    tried: list[Call] = []
    refused: list[Call] = []

    def try_what_is_wrong(
        script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> None:
        if script.name == name and not tried:
            tried.extend(wrong_calls(name, keys, arguments))
            for call in tried:
                refuses(pipeline.cluster, script, call)
            refused.extend(tried)

    before_each(monkeypatch, try_what_is_wrong)
    with suppress(Unreachable):  # the real time in the call that was held back may be too old now
        use_every_script(pipeline)
    assert len(refused) >= 3


#: Script, and a field of the hash that is its second key.
COUNTERS = [
    ("ingest", ":entries"),
    ("ingest", ":readings"),
    *(
        (script, total)
        for script in ("commit", "redrive")
        for total in ("acknowledged", "quarantined")
    ),
    *(("commit", f"00:{part}") for part in ("count", "sum", "min")),
    *(("redrive", f"01:{part}") for part in ("count", "sum", "min")),
]


@pytest.mark.parametrize(("name", "field"), COUNTERS)
@pytest.mark.parametrize("value", ["many", "1.5", "007", "1" * 19])
def test_a_counter_that_no_script_wrote_is_refused_before_anything_has_changed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str, field: str, value: str
) -> None:
    tried: list[str] = []
    refused: list[str] = []

    def damage(script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> None:
        if script.name != name or tried:
            return
        held = keys[1]
        tried.append(held)
        before = pipeline.cluster.call("HGET", held, field)
        pipeline.cluster.call("HSET", held, field, value)
        refuses(pipeline.cluster, script, Call(f"{field} is {value!r}", keys, arguments))
        if before is None:
            pipeline.cluster.call("HDEL", held, field)
        else:
            pipeline.cluster.call("HSET", held, field, before)
        refused.append(held)

    before_each(monkeypatch, damage)
    with suppress(Unreachable):  # as above
        use_every_script(pipeline)
    assert refused
