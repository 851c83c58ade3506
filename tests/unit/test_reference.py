"""The README's tables are what the code declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from hourglass.errors import Refused
from hourglassctl.reference import configuration_table, metrics_table, rewritten

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert rewritten(text) == text


def test_every_option_named_in_the_design_is_in_the_table() -> None:
    table = configuration_table()
    for name in ("REDIS_URL", "WAREHOUSE_URL", "HTTP_PORT", "CLAIM_IDLE_MS", "LATENESS_S",
                 "DEVICES", "PERIOD_S", "SEED"):  # fmt: skip
        assert f"`HOURGLASS_{name}`" in table


def test_the_stream_metrics_carry_the_names_of_redis_exporter() -> None:
    table = metrics_table()
    for name in ("stream_partitions", "stream_length", "stream_group_lag", "stream_group_lag_known",
                 "stream_group_messages_pending", "stream_group_consumers",
                 "partition_expiry_timestamp_seconds"):  # fmt: skip
        assert f"`hourglass_{name}`" in table


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(Refused, match="no place"):
        rewritten("no tables here")
