"""The columns for revisions by late readings, and the view `daily_averages`."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

#: SQL of the day and of the mean, by dialect. Double precision, because a sum of sums may exceed 64
#: bits. In SQLite an hour is text that its date functions understand.
_DAYS = {
    "postgresql": (
        "(hour AT TIME ZONE 'UTC')::date",
        "sum(sum_milli_f)::double precision / sum(observations)::double precision",
    ),
    "sqlite": ("date(hour)", "total(sum_milli_f) / total(observations)"),
}


def upgrade() -> None:
    for name in ("revision", "late_sum_milli_f"):
        zero = sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
        op.add_column("hourly_averages", zero)
    day, mean_milli_f = _DAYS[op.get_context().dialect.name]
    op.execute(
        f"""
        CREATE VIEW daily_averages AS
        SELECT {day} AS day,
               {mean_milli_f} / 1000 AS average_temp_f,
               min(min_temp_f) AS min_temp_f,
               max(max_temp_f) AS max_temp_f,
               sum(observations) AS observations,
               count(*) AS hours,
               sum(CASE WHEN revision > 0 THEN 1 ELSE 0 END) AS revised_hours
        FROM hourly_averages
        GROUP BY 1
        """  # noqa: S608
    )
