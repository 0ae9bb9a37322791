"""Nights, cases, runs with their samples, conditions, manifests and faults, verdicts, and what happened to devices."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    _nights()
    _runs()
    _beside_runs()
    _verdicts()


def _nights() -> None:
    op.create_table(
        "nights",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("suite", sa.String, nullable=False),
        sa.Column("began", sa.String, nullable=False),
        sa.Column("began_s", sa.Double, nullable=False),
        sa.Column("ended", sa.String),
        sa.Column("options", sa.String, nullable=False),
    )
    op.create_index("nights_of_suite", "nights", ["suite", "began_s"])
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("recipe", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.UniqueConstraint("model", "target", "recipe", "device", name="cases_once"),
    )
    op.create_table(
        "night_cases",
        sa.Column("night_id", sa.String, sa.ForeignKey("nights.id"), primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_index("nights_of_case", "night_cases", ["case_id", "night_id"])


def _runs() -> None:
    op.create_table(
        "manifests",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("night_id", sa.String, sa.ForeignKey("nights.id"), nullable=False),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("suite", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("artifact_sha256", sa.String),
        sa.Column("manifest_sha256", sa.String, sa.ForeignKey("manifests.sha256")),
        sa.Column("valid", sa.Boolean),
        sa.Column("simulated", sa.Boolean),
        *(sa.Column(name, sa.Double) for name in ("latency_ms", "latency_low_ms", "latency_high_ms", "p90_ms", "cv")),
        sa.Column("samples", sa.Integer),
        sa.Column("memory_mib", sa.Double),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("quality", sa.Double),
        sa.Column("hottest_c", sa.Double),
    )
    op.create_index("runs_of_case", "runs", ["case_id", "at_s"])
    op.create_index("runs_of_night", "runs", ["night_id"])


def _beside_runs() -> None:
    op.create_table(
        "records",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in ("samples", "starts", "warmup")),
    )
    op.create_table(
        "conditions",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "faults",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
    )


def _verdicts() -> None:
    op.create_table(
        "findings",
        sa.Column("night_id", sa.String, sa.ForeignKey("nights.id"), primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("metric", sa.String, primary_key=True),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("baseline_sha256", sa.String),
        sa.Column("artifact_sha256", sa.String),
        sa.Column("verdict", sa.String, nullable=False),
    )
    op.create_index("findings_of_case", "findings", ["case_id", "night_id"])
    op.create_table(
        "health",
        sa.Column("night_id", sa.String, sa.ForeignKey("nights.id"), primary_key=True),
        *(sa.Column(name, sa.String, primary_key=True) for name in ("device", "at", "event")),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_index("health_of_device", "health", ["device", "at_s"])
