"""What the averages' slot remembers, as it stands in its keys."""

from __future__ import annotations

import pytest

from hourglass.cluster.published import Result, decode_published_through, results
from hourglass.errors import CorruptKey


def test_the_published_set_says_what_each_hour_was_published_with() -> None:
    members = [b"1735689600000:3600:181080000", b"1735693200000:1:-500"]

    assert results(members, key="published") == {
        1735689600000: Result(3600, 181080000),
        1735693200000: Result(1, -500),
    }


def test_the_published_through_hour_is_a_time_or_missing() -> None:
    assert decode_published_through(None, key="published_through") is None
    assert decode_published_through(b"1735689600000", key="published_through") == 1735689600000
    with pytest.raises(CorruptKey, match="published_through holds no time: rename or delete it"):
        decode_published_through(b"yesterday", key="published_through")


def test_a_result_is_shown_in_degrees() -> None:
    assert str(Result(3, -150_500)) == "3 readings, sum -150.5"
