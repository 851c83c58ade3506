"""Panels that each service's dashboard has."""

from __future__ import annotations

from collections.abc import Sequence

from charts.tools.dashboards.board import Panel


def redis_row(*marks: str) -> tuple[str, Sequence[Panel]]:
    """How the service's pods get on with Redis. `marks`: metrics that only its pods export."""
    pods = f"and on (pod) {marks[0]}HERE"
    return (
        "Redis, as these pods see it",
        (
            Panel(
                title="Errors",
                about="Commands that Redis did not answer or refused, in five minutes.",
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
                about="A failover or a moving slot redirects; each new connection after the start "
                "is a reconnect. In five minutes.",
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
                title="What runs",
                about="Version and revision of each pod.",
                queries=[(f"hourglass_build_infoHERE {pods}", "")],
                kind="table",
            ),
        ),
    )
