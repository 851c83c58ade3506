"""What a drill makes of what it finds: lost and twice, exactly, and whether a promise was kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.errors import ConfigurationError
from hourglass.model.keys import HOUR_MS
from hourglassctl.audit.compare import Audit, Difference, Result
from tests.lab.drill.catalogue import FAULTS, chosen
from tests.lab.drill.reckoning import Evidence, Ledger, Reckoning, added, reckon
from tests.lab.drill.report import (
    NOTHING_LOST,
    Happened,
    MayLose,
    Outcome,
    Promise,
    judge,
    markdown,
    rewritten,
    rows,
)

ROOT = Path(__file__).resolve().parent.parent.parent
WHOLE = Ledger(produced=300, taken=300)


def hours(*counts: int) -> dict[int, Result]:
    """From hour 0 on, so many readings of 50 degrees each."""
    return {
        number * HOUR_MS: Result(count, count * 50_000)
        for number, count in enumerate(counts)
        if count
    }


def test_what_was_generated_and_counted_alike_is_neither_lost_nor_twice() -> None:
    found = reckon(
        Evidence(
            ledgers={"producer-1": WHOLE},
            generated={"producer-1": hours(100, 200)},
            counted=hours(100, 200),
        )
    )
    assert found == Reckoning(expected=300, lost=0, twice=0, wrong_sums=())


def test_a_loss_in_one_hour_hides_no_gain_in_another() -> None:
    found = reckon(
        Evidence(
            ledgers={"producer-1": WHOLE},
            generated={"producer-1": hours(100, 200)},
            counted=hours(110, 190),
        )
    )
    assert (found.lost, found.twice) == (10, 10)


def test_a_whole_report_is_compared_with_the_generator_and_not_with_the_stream() -> None:
    found = reckon(
        Evidence(
            ledgers={"producer-1": WHOLE},
            generated={"producer-1": hours(300)},
            stored={"producer-1": hours(250)},
            counted=hours(250),
        )
    )
    assert found.lost == 50


def test_a_killed_producer_is_compared_with_the_stream() -> None:
    stored = {"producer-1": hours(120)}
    assert reckon(Evidence(stored=stored, counted=hours(120))).lost == 0
    assert reckon(Evidence(stored=stored, counted=hours(119))).lost == 1
    assert reckon(Evidence(stored=stored, counted=hours(121))).twice == 1


def test_a_producer_that_gave_some_up_has_what_was_acknowledged() -> None:
    ledger = Ledger(produced=130, taken=120, dropped=10)
    for stored, lost in ((120, 0), (121, 0), (110, 10)):
        found = reckon(
            Evidence(
                ledgers={"producer-1": ledger},
                stored={"producer-1": hours(stored)},
                counted=hours(stored),
            )
        )
        assert found.lost == lost


def test_a_killed_producer_is_compared_with_its_last_report() -> None:
    stored = {"producer-1": hours(120)}
    for acknowledged, lost in ((119, 0), (120, 0), (123, 3)):
        evidence = Evidence(
            acknowledged={"producer-1": acknowledged}, stored=stored, counted=hours(120)
        )
        assert reckon(evidence).lost == lost
    assert reckon(Evidence(acknowledged={"producer-1": 7})).lost == 7


def test_what_the_drill_wrote_itself_is_expected_too() -> None:
    found = reckon(Evidence(foreign=hours(0, 7), counted=hours(0, 7)))
    assert (found.expected, found.lost, found.twice) == (7, 0, 0)


def test_a_right_count_with_a_wrong_sum_is_named() -> None:
    found = reckon(Evidence(foreign=hours(7), counted={0: Result(7, 1)}))
    assert found.wrong_sums == (0,)


counts = st.lists(st.integers(0, 50), max_size=5)


@given(counts, counts, counts)
def test_every_difference_is_either_lost_or_twice(
    one: list[int], other: list[int], found: list[int]
) -> None:
    generated = {"a": hours(*one), "b": hours(*other)}
    reckoned = reckon(Evidence(generated=generated, counted=hours(*found)))
    assert reckoned.expected == sum(one) + sum(other)
    assert reckoned.expected - reckoned.lost + reckoned.twice == sum(found)


def test_hours_are_added_up() -> None:
    assert added([hours(1, 2), hours(3)]) == hours(4, 2)


def reckoned(lost: int = 0, twice: int = 0) -> Reckoning:
    return Reckoning(expected=300, lost=lost, twice=twice, wrong_sums=())


DONE = Happened(text="done")
NAMED = Promise(text="audit names it", may_lose=MayLose.WHAT_AUDIT_NAMES, may_say="are gone")
SAID = Promise(text="audit says it", may_lose=MayLose.WHAT_AUDIT_NAMES, says="are gone")
AT_RISK = Promise(text="the rest is gone", may_lose=MayLose.WHAT_WAS_THERE)


def audit(
    *found: str, gone: int = 0, quarantined: int = 0, late: int = 0, too_late: int = 0
) -> Audit:
    return Audit(
        gone=gone,
        quarantined=quarantined,
        late_by_hour={0: late} if late else {},
        too_late=too_late,
        differences=[Difference(hour="", what=what) for what in found],
    )


@pytest.mark.parametrize(
    ("promise", "happened", "found", "audited", "kept"),
    [
        (NOTHING_LOST, DONE, reckoned(), audit(), True),
        (NOTHING_LOST, DONE, reckoned(lost=1), audit(gone=1), False),
        (NOTHING_LOST, DONE, reckoned(twice=1), audit(), False),
        (NOTHING_LOST, DONE, reckoned(), audit("something differs"), False),
        (NOTHING_LOST, DONE, reckoned(), audit(quarantined=1), False),
        (NOTHING_LOST, Happened(text="", bad=1), reckoned(), audit(quarantined=1), True),
        (NOTHING_LOST, Happened(text="", bad=2), reckoned(), audit(quarantined=1), False),
        (NOTHING_LOST, DONE, reckoned(), audit(late=1), False),
        (NOTHING_LOST, DONE, reckoned(), audit(too_late=1), False),
        (NOTHING_LOST, Happened(text="", late=1), reckoned(), audit(late=1), True),
        (NOTHING_LOST, Happened(text="", late=1), reckoned(), audit(late=2), False),
        (NAMED, DONE, reckoned(lost=5), audit("5 readings are gone", gone=5), True),
        (NAMED, DONE, reckoned(), audit(), True),
        (NAMED, DONE, reckoned(lost=5), audit("4 readings are gone", gone=4), False),
        (NAMED, DONE, reckoned(lost=5), audit("5 are gone", "and more", gone=5), False),
        (NAMED, DONE, reckoned(twice=1), audit(), False),
        (AT_RISK, Happened(text="", at_risk=9), reckoned(lost=9), audit(), True),
        (AT_RISK, Happened(text="", at_risk=9), reckoned(lost=10), audit(), False),
        (AT_RISK, Happened(text="", at_risk=9), reckoned(lost=8), audit(), False),
        (SAID, DONE, reckoned(lost=5), audit("5 readings are gone", gone=5), True),
        (SAID, DONE, reckoned(), audit(), False),
        (SAID, DONE, reckoned(lost=5), audit("something differs", gone=5), False),
    ],
)
def test_a_promise_is_judged_by_exact_numbers(
    promise: Promise,
    happened: Happened,
    found: Reckoning,
    audited: Audit,
    kept: bool,  # noqa: FBT001
) -> None:
    assert (judge(promise, happened, found, audited) == []) == kept


def test_a_wrong_sum_breaks_every_promise() -> None:
    found = Reckoning(expected=1, lost=0, twice=0, wrong_sums=(0,))
    assert judge(NAMED, DONE, found, audit()) == ["the sum of 1970-01-01T00:00:00Z is wrong"]


KEPT = Outcome(
    fault="kill-master", happened="killed", again_s=2.34, lost=1234, twice=0, late=7, readings=5,
    rate=9,
)  # fmt: skip
BROKEN = Outcome(
    fault="scale", happened="a | b", again_s=None, lost=0, twice=0, late=0, readings=0, rate=0,
    broken=("it never came back",),
)  # fmt: skip


def test_rows_say_whether_the_promise_was_kept() -> None:
    assert rows([KEPT, BROKEN]) == [
        ("kill-master", "killed", "2.3 s", "1,234", "0", "7", "kept"),
        ("scale", "a | b", "never", "0", "0", "0", "BROKEN: it never came back"),
    ]


def test_the_document_gets_the_table_between_its_marks_and_nowhere_else() -> None:
    table = markdown([KEPT, BROKEN], FAULTS)
    assert "| `kill-master` | killed | 9 | 2.3 s | 1,234 | 0 | 7 |" in table
    assert "a \\| b" in table
    assert ": **broken**" in table
    document = "before\n<!-- drill:begin -->\nold\n<!-- drill:end -->\nafter\n"
    made = rewritten(document, table)
    assert made == f"before\n<!-- drill:begin -->\n{table}\n<!-- drill:end -->\nafter\n"
    assert rewritten("no place", table) is None


def test_faults_are_chosen_by_name_and_all_if_none_is_named() -> None:
    assert [fault.name for fault in chosen(["scale", "kill-master"])] == ["scale", "kill-master"]
    assert [fault.name for fault in chosen([])] == list(FAULTS)


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no fault earthquake; there are kill-producer, "):
        chosen(["earthquake"])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_what_a_promise_rests_on_is_there(fault: object) -> None:
    import re

    from tests.lab.drill.fault import Fault

    assert isinstance(fault, Fault)
    file, _, function = fault.proof.partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    files = [name for name in re.findall(r"`([^`]+)`", fault.rests_on) if "/" in name]
    for name in files:
        assert (ROOT / "services" / name).exists(), name
