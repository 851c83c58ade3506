"""The tables of the reference pages are what the code declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from hourglass.errors import Conflict
from tools.reference import commands_table, configuration_table, metrics_table, rewritten

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["configuration.md", "commands.md", "metrics.md"])
def test_a_reference_page_is_current(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert rewritten(text) == text


def test_every_subcommand_is_in_the_table_with_its_own_options_alone() -> None:
    table = commands_table()
    for command, flag in (("demo", "--keep"), ("clock run", "--speed"), ("reset", "--yes")):
        (row,) = [each for each in table.splitlines() if f"`hourglass {command}`" in each]
        assert f"`{flag}`: " in row
    assert "--redis-url" not in table


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
    with pytest.raises(Conflict, match="no markers"):
        rewritten("no tables here")
