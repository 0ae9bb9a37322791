"""What the nights of a case are read from stands in one index, in their order; faults and effects beside the figures."""

import json
import math

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FIGURES = ("latency_ms", "memory_mib", "size_bytes", "quality")


def upgrade() -> None:
    """Add the two columns with what is known of them, and make the indexes that need them."""
    op.add_column("runs", sa.Column("fault", sa.String))
    op.add_column("findings", sa.Column("effect", sa.Double))
    cause = "(SELECT cause FROM faults WHERE run_id = runs.id)"
    op.execute(f"UPDATE runs SET fault = {cause} WHERE id IN (SELECT run_id FROM faults)")
    _fill_effects()
    op.drop_index("runs_of_case", "runs")
    key = ("case_id", "night_id", "at_s", "ordinal")
    op.create_index("runs_of_case", "runs", [*key, "role", "valid", "fault", "artifact_sha256", *_FIGURES])
    op.drop_index("findings_of_case", "findings")
    op.create_index("findings_of_case", "findings", ["case_id", "metric", "night_id", "decision", "effect"])


def _fill_effects() -> None:
    """Copy each verdict's effect: by Python's JSON, since no database reads NaN."""
    connection = op.get_bind()
    names = ("night_id", "case_id", "metric")
    table = sa.table("findings", *(sa.column(name) for name in (*names, "verdict", "effect")))
    rows = connection.execute(sa.select(*(table.c[name] for name in names), table.c.verdict)).all()
    key = [table.c[name] == sa.bindparam(f"its_{name}") for name in names]
    told = [
        {f"its_{name}": row[name] for name in names} | {"effect": _effect(row["verdict"])}
        for row in (each._mapping for each in rows)
    ]
    if told:
        connection.execute(sa.update(table).where(*key).values(effect=sa.bindparam("effect")), told)


def _effect(verdict: str) -> float | None:
    """Return a verdict's effect; None where it is no finite number, or the verdict was damaged."""
    try:
        effect = json.loads(verdict)["effect"]
        return effect if math.isfinite(effect) else None
    except (ValueError, TypeError, KeyError):
        return None
