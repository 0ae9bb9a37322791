"""Runs tell how they compare with the artifact that ran in turns with them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_FIGURES = ("latency_ms", "memory_mib", "size_bytes", "quality", "beside", "ratio", "pace_ms")


def upgrade() -> None:
    """Add the three columns, which no run of before has, and the index that has them too."""
    op.add_column("runs", sa.Column("beside", sa.String))
    op.add_column("runs", sa.Column("ratio", sa.Double))
    op.add_column("runs", sa.Column("pace_ms", sa.Double))
    op.drop_index("runs_of_case", "runs")
    key = ("case_id", "night_id", "at_s", "ordinal")
    op.create_index("runs_of_case", "runs", [*key, "role", "valid", "fault", "artifact_sha256", *_FIGURES])
