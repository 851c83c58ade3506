"""Table `hourly_averages`, one row per hour. It may exist already: earlier releases created it
without a version."""

import sqlalchemy as sa
from alembic import op

from averages_consumer.warehouse.table import UtcTime

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "hourly_averages",
        sa.Column("hour", UtcTime, primary_key=True),
        sa.Column("average_temp_f", sa.Double, nullable=False),
        sa.Column("sum_milli_f", sa.BigInteger, nullable=False),
        sa.Column("min_temp_f", sa.Double, nullable=False),
        sa.Column("max_temp_f", sa.Double, nullable=False),
        sa.Column("observations", sa.BigInteger, nullable=False),
        sa.Column("devices", sa.BigInteger, nullable=False),
        sa.Column("late", sa.BigInteger, nullable=False),
        sa.Column("sealed_by", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text),
        sa.Column("entry_id", sa.Text, nullable=False),
        sa.Column("loaded_at", UtcTime, nullable=False),
        if_not_exists=True,
    )
