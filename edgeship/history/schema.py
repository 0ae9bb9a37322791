"""The tables of the history: figures in narrow rows that are read quickly, raw samples and conditions in blobs beside."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator


class Words(TypeDecorator[str]):
    """Text of any origin: what no database takes (NUL, lone surrogates of a path) is written as an escape."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the text as it is stored and looked for."""
        if value is None:
            return None
        return str(value).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


METADATA = MetaData()
VERSION_TABLE = "edgeship_schema"
VERSION = "0004"  # of these tables: the last file in migrations/versions

nights = Table(
    "nights",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("suite", Words, nullable=False),
    Column("began", Words, nullable=False),
    Column("began_s", Double, nullable=False),  # since 1970: what nights are ordered by
    Column("ended", Words),
    Column("options", Words, nullable=False),  # JSON
    Index("nights_of_suite", "suite", "began_s"),
)
cases = Table(
    "cases",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", Words, nullable=False),
    Column("target", Words, nullable=False),
    Column("recipe", Words, nullable=False),
    Column("device", Words, nullable=False),
    UniqueConstraint("model", "target", "recipe", "device", name="cases_once"),
)
night_cases = Table(
    "night_cases",
    METADATA,
    Column("night_id", Words, ForeignKey("nights.id"), primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True),
    Column("place", Integer, nullable=False),
    Index("nights_of_case", "case_id", "night_id"),
)
manifests = Table(
    "manifests",
    METADATA,
    Column("sha256", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON, zlib
)
runs = Table(
    "runs",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("night_id", Words, ForeignKey("nights.id"), nullable=False),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False),
    Column("suite", Words, nullable=False),
    Column("role", String, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("at", Words, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("artifact_sha256", Words),
    Column("manifest_sha256", String, ForeignKey("manifests.sha256")),
    Column("valid", Boolean),  # None: it ended with a fault
    Column("fault", String),  # its cause
    Column("simulated", Boolean),
    Column("latency_ms", Double),  # its p50; the mean where the tool tells no p50
    Column("latency_low_ms", Double),
    Column("latency_high_ms", Double),
    Column("p90_ms", Double),
    Column("cv", Double),
    Column("samples", Integer),
    Column("memory_mib", Double),
    Column("size_bytes", BigInteger),
    Column("quality", Double),
    Column("hottest_c", Double),
    Column("beside", Words),  # what ran in turns with it: the first 12 digits of its sha256
    Column("ratio", Double),  # to that, whose time was `pace_ms`
    Column("pace_ms", Double),
    # All that the nights of a case are read from, in their order: rows themselves lie far apart, a night's cases between.
    Index(
        "runs_of_case",
        "case_id",
        "night_id",
        "at_s",
        "ordinal",
        "role",
        "valid",
        "fault",
        "artifact_sha256",
        "latency_ms",
        "memory_mib",
        "size_bytes",
        "quality",
        "beside",
        "ratio",
        "pace_ms",
    ),
    Index("runs_of_night", "night_id"),
)
records = Table(
    "records",
    METADATA,
    Column("run_id", Words, ForeignKey("runs.id"), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # what a bench says beside samples and conditions: JSON, zlib
    Column("samples", LargeBinary),
    Column("starts", LargeBinary),
    Column("warmup", LargeBinary),
)
conditions = Table(
    "conditions",
    METADATA,
    Column("run_id", Words, ForeignKey("runs.id"), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
faults = Table(
    "faults",
    METADATA,
    Column("run_id", Words, ForeignKey("runs.id"), primary_key=True),
    Column("cause", String, nullable=False),
    Column("message", Words, nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
)
findings = Table(
    "findings",
    METADATA,
    Column("night_id", Words, ForeignKey("nights.id"), primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True),
    Column("metric", String, primary_key=True),
    Column("decision", String, nullable=False),
    Column("baseline_sha256", Words),
    Column("artifact_sha256", Words),
    Column("verdict", Words, nullable=False),  # JSON
    Column("effect", Double),  # the verdict's
    Index("findings_of_case", "case_id", "metric", "night_id", "decision", "effect"),
)
health = Table(
    "health",
    METADATA,
    Column("night_id", Words, ForeignKey("nights.id"), primary_key=True),
    Column("device", Words, primary_key=True),
    Column("at", Words, primary_key=True),
    Column("event", String, primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("reason", Words, nullable=False),
    Index("health_of_device", "device", "at_s"),
)
levels = Table(
    "levels",
    METADATA,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # 1 for the first that was accepted
    Column("artifact_sha256", Words, nullable=False),
    Column("at", Words, nullable=False),
    Column("at_s", Double, nullable=False),
)
leases = Table(
    "leases",
    METADATA,
    Column("device_key", Words, primary_key=True),
    Column("token", BigInteger, nullable=False),  # grows with every grant: what an earlier holder writes is refused
    Column("holder", Words),
    Column("since_s", Double, nullable=False),  # by the database's clock, since 1970
    Column("expires_s", Double, nullable=False),
)
