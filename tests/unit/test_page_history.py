"""Which averages are asked for: the parameters of /api/averages."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from averages_consumer.web.api import DEFAULT_LIMIT, MOST_HOURS, BadRequest, Query
from averages_consumer.web.view import WINDOW_MS
from hourglass.model.keys import HOUR_MS, iso

NOW_MS = 1_735_723_800_000
NEXT_HOUR_MS = 1_735_725_600_000

seconds = st.integers(0, 4_000_000_000).map(lambda each: each * 1000)


def test_without_times_the_last_five_days_are_meant() -> None:
    assert Query.of({"limit": "7"}, NOW_MS) == Query(
        from_ms=NEXT_HOUR_MS - WINDOW_MS, to_ms=NEXT_HOUR_MS, limit=7
    )


def test_times_may_be_days_and_may_have_an_offset() -> None:
    query = Query.of({"from": "2025-01-01", "to": "2025-01-02T01:00:00+01:00"}, NOW_MS)

    assert (iso(query.from_ms), iso(query.to_ms)) == (
        "2025-01-01T00:00:00Z",
        "2025-01-02T00:00:00Z",
    )
    assert query.limit == DEFAULT_LIMIT


@given(seconds, seconds, st.integers(1, MOST_HOURS))
def test_what_was_asked_for_is_what_is_understood(first: int, second: int, limit: int) -> None:
    from_ms, to_ms = sorted((first, second))

    query = Query.of({"from": iso(from_ms), "to": iso(to_ms), "limit": str(limit)}, NOW_MS)

    assert query == Query(from_ms=from_ms, to_ms=to_ms, limit=limit)


@given(seconds, seconds, st.integers(1, MOST_HOURS))
def test_the_next_page_begins_after_the_last_hour_of_this_one(
    from_ms: int, length_ms: int, limit: int
) -> None:
    query = Query(from_ms=from_ms, to_ms=from_ms + length_ms + HOUR_MS, limit=limit)

    reference = query.after(from_ms)

    assert reference.startswith("?")
    following = Query.of(dict(parse_qsl(reference[1:])), NOW_MS)
    assert (following.from_ms, following.to_ms) == (from_ms + HOUR_MS, query.to_ms)
    assert following.limit == limit


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"form": "2025-01-01"}, "'form' is not a parameter: use from, to and limit"),
        ({"from": "yesterday"}, "from is 'yesterday': give a time such as"),
        ({"to": ""}, "to is '': give a time such as"),
        ({"from": "1969-12-31"}, "from is '1969-12-31': give a time of the years 1970 to 9999"),
        ({"from": "2025-01-02", "to": "2025-01-01"}, "from is after to"),
        ({"limit": "0"}, "limit is '0': give a whole number from 1 to 1000"),
        ({"limit": "1001"}, "limit is '1001'"),
        ({"limit": "-5"}, "limit is '-5'"),
        ({"limit": "1e2"}, "limit is '1e2'"),
        ({"limit": "٣"}, "limit is '٣'"),
        ({"limit": "9" * 5000}, "limit is '999"),
        ({"limit": "0000000019999999"}, "limit is '0000000019999999'"),
        ({"limit": "000000001" + "0" * 5000}, "limit is '000000001000"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_with_the_remedy(
    parameters: dict[str, str], said: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        Query.of(parameters, NOW_MS)

    message = str(refusal.value)
    assert message.startswith(said)
    assert "\n" not in message
    assert len(message) < 200


#: Digits of any length: more than a number of the parameter has, and more than Python reads.
zeros = st.integers(0, 20).map("0".__mul__)
digits = st.tuples(zeros, st.integers(0, 10**10).map(str), zeros | st.just("0" * 5000)).map("".join)


@given(st.dictionaries(st.sampled_from(["from", "to", "limit"]), st.text(max_size=40) | digits))
def test_any_text_is_understood_or_refused(parameters: dict[str, str]) -> None:
    try:
        query = Query.of(parameters, NOW_MS)
    except BadRequest:
        return
    assert 0 <= query.from_ms <= query.to_ms
    assert 1 <= query.limit <= MOST_HOURS
