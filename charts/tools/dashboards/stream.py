"""The streams: partitions appear, fill, are counted and expire; their shards."""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, one

EXPIRY = "max by (stream) (hourglass_partition_expiry_timestamp_secondsSTREAM)"
OLDEST_PENDING = (
    "time() - max by (stream) (hourglass_stream_group_oldest_pending_timestamp_secondsSTREAM) "
    "or 0 * max by (stream) (hourglass_stream_group_messages_pendingSTREAM)"
)
BY_SHARD = "max by (stream, shard) (hourglass_stream_shard_infoSTREAM)"

BOARD = Board(
    uid="hourglass-stream",
    title="Hourglass: streams",
    about="Partitions from their first reading to their expiry, and their shards.",
    streams=True,
    rows=(
        (
            "Partitions",
            (
                one(
                    "Live partitions",
                    "max(hourglass_stream_partitionsHERE)",
                    "Days whose readings have not expired.",
                ),
                one(
                    "Lag",
                    "max(hourglass_aggregate_lagHERE)",
                    "Entries not counted yet, over all partitions; no value while unknown.",
                    runbook="HourglassLagGrowing",
                    warning=10_000,
                    critical=100_000,
                ),
                one(
                    "Memory",
                    "sum(max by (stream) (hourglass_stream_memory_bytesSTREAM))",
                    "Memory of the selected streams in Redis.",
                    unit="bytes",
                ),
            ),
        ),
        (
            "Size and time to live",
            (
                Panel(
                    title="Length",
                    about="Entries in each stream. A line ends when its partition expires.",
                    queries=[("max by (stream) (hourglass_stream_lengthSTREAM)", "{{stream}}")],
                ),
                Panel(
                    title="Time to live",
                    about="Wall time until the partition expires.",
                    queries=[(f"{EXPIRY} - time()", "{{stream}}")],
                    unit="s",
                    runbook="HourglassReadingsAtRisk",
                ),
                Panel(
                    title="Memory by stream",
                    about="Estimated by Redis from samples.",
                    queries=[
                        ("max by (stream) (hourglass_stream_memory_bytesSTREAM)", "{{stream}}")
                    ],
                    unit="bytes",
                ),
            ),
        ),
        (
            "Counting",
            (
                Panel(
                    title="Lag by partition",
                    about="Entries not delivered to the group yet, and readings not counted yet; "
                    "a gap means unknown.",
                    queries=[
                        (
                            "max by (stream, group) (hourglass_stream_group_lagSTREAM)",
                            "{{stream}} {{group}}",
                        ),
                        (
                            "max by (stream, group) (hourglass_stream_group_lag_readingsSTREAM)",
                            "{{stream}} {{group}}, readings",
                        ),
                    ],
                    runbook="HourglassLagGrowing",
                ),
                Panel(
                    title="Pending",
                    about="Entries delivered and not acknowledged.",
                    queries=[
                        (
                            (
                                "max by (stream, group) "
                                "(hourglass_stream_group_messages_pendingSTREAM)"
                            ),
                            "{{stream}} {{group}}",
                        )
                    ],
                ),
                Panel(
                    title="Age of the oldest pending entry",
                    about="Time since its id; 0 if none is pending. It should fall back again and "
                    "again, not grow.",
                    queries=[(OLDEST_PENDING, "{{stream}}")],
                    unit="s",
                    runbook="HourglassPendingStuck",
                    critical=600,
                ),
            ),
        ),
        (
            "Shards",
            (
                Panel(
                    title="Streams by shard",
                    about="Number of streams on each master.",
                    queries=[(f"count by (shard) ({BY_SHARD})", "{{shard}}")],
                ),
                Panel(
                    title="Entries by shard",
                    about="Entries of the streams on each master.",
                    queries=[
                        (
                            (
                                f"sum by (shard) ({BY_SHARD} * on (stream) group_left () "
                                "max by (stream) (hourglass_stream_lengthSTREAM))"
                            ),
                            "{{shard}}",
                        )
                    ],
                ),
                Panel(
                    title="Shard of each stream",
                    about="The master that holds the stream.",
                    queries=[(BY_SHARD, "")],
                    kind="table",
                ),
            ),
        ),
    ),
)
