"""The Grafana dashboards, built with Grafana's own library: an overview, one of the streams, and
one for each service."""

from __future__ import annotations

from charts.tools.dashboards import aggregator, averages_consumer, producer, stream, well
from charts.tools.dashboards.board import Board, as_json

BOARDS: tuple[Board, ...] = (
    well.BOARD,
    stream.BOARD,
    producer.BOARD,
    aggregator.BOARD,
    averages_consumer.BOARD,
)


def dashboards() -> dict[str, str]:
    """The JSON text of each dashboard, by file name."""
    return {f"{board.uid}.json": as_json(board) for board in BOARDS}
