"""Panels that each service's dashboard has."""

from __future__ import annotations

from collections.abc import Sequence

from charts.tools.dashboards.board import Panel


def redis_row(*marks: str) -> tuple[str, Sequence[Panel]]:
    """Redis as the service's pods see it. `marks`: metrics that only its pods export."""
    pods = f"and on (pod) {marks[0]}HERE"
    return (
        "Redis, as these pods see it",
        (
            Panel(
                title="Errors",
                about="Commands that failed: no answer, or an error. In five minutes.",
                queries=[
                    (
                        f"sum by (kind) (increase(hourglass_redis_errors_totalHERE[5m]) {pods})",
                        "{{kind}}",
                    )
                ],
                runbook="HourglassRedisUnreachable",
            ),
            Panel(
                title="Redirections and new connections",
                about="Redirections by a failover or a slot migration, and connections; after the "
                "start each new connection is a reconnect. In five minutes.",
                queries=[
                    (
                        (
                            "sum by (kind) (increase(hourglass_redis_redirections_totalHERE[5m]) "
                            f"{pods})"
                        ),
                        "{{kind}}",
                    ),
                    (
                        f"sum(increase(hourglass_redis_connections_totalHERE[5m]) {pods})",
                        "connections",
                    ),
                ],
            ),
            Panel(
                title="Versions",
                about="Version and revision of each pod.",
                queries=[(f"hourglass_build_infoHERE {pods}", "")],
                kind="table",
            ),
        ),
    )
