"""Fill a history with made-up records and time what people wait for: the history of one model has to come within 0.5 s, and
all that a site of every case is made from within 10 s.

    python scripts/bench_history.py [--records 100000] [--samples 300] [--url URL] [--keep FILE]

Made up are 5 models on 4 devices, 8 runs a case and night (4 new, 4 old), each with its samples, starts, conditions, four
verdicts, and every night a manifest of its own. Without --url the database is an SQLite file, which is removed afterwards
unless --keep names it; one that holds as many records is not filled again. Each query is asked five times of a database
that was opened anew, the site twice: printed are the median, and beside it the seconds of processor that this process took, which other work on
the machine leaves alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from edgeship import digest, history
from edgeship.gate import Verdict
from edgeship.history import History, keeping, packing, schema
from edgeship.history.database import Database
from edgeship.measurement import BenchRecord, Board, Conditions, Golden, Latency, Memory, Operator, Runtime, Snapshot
from edgeship.nightly_record import Case, NightRecord, Role, Run

MODELS = {"resnet8": 31.2, "mobilenetv2": 84.0, "efficientnet-lite0": 140.0, "keywords": 1.9, "unet": 410.0}
DEVICES = ("kitchen", "attic", "cellar", "desk")
CASES = tuple(Case(model, "rpi4", "int8", device) for model in MODELS for device in DEVICES)
ROLES: tuple[Role, ...] = ("new", "old", "old", "new", "new", "old", "old", "new")
ONE_MODEL, SITE = "history of one model", "all that a site reads"
LIMITS_S = {ONE_MODEL: 0.5, SITE: 10.0}


def main() -> None:
    """Fill, time, print; exit 1 where something takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--url")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = options.keep or Path(name) / "history.sqlite"
        url = options.url or str(file)
        if _kept(url) < options.records:
            began = time.monotonic()
            count = _fill(url, options.records, options.samples)
            print(f"{count} records written in {time.monotonic() - began:.0f} s", flush=True)
        if not options.url:
            print(f"{file.stat().st_size / 2**20:.0f} MiB")
        late = [words for words, took_s in _timed(url).items() if took_s > LIMITS_S.get(words, math.inf)]
    sys.exit(f"too slow: {', '.join(late)}" if late else 0)


def _kept(url: str) -> int:
    with history.open(url):
        pass
    database = Database(url)
    with database.reading() as connection:
        count: int = connection.execute(select(func.count()).select_from(schema.runs)).scalar_one()
    database.close()
    return count


def _timed(url: str) -> dict[str, float]:
    """Print how long each query takes, opening included, the median of five; return these seconds."""
    case = CASES[0]
    asked: dict[str, Callable[[History], Any]] = {
        ONE_MODEL: lambda kept: kept.histories(case.model),
        "the last 30 nights of one case": lambda kept: kept.nights(case, limit=30),
        "points of one case": lambda kept: kept.points(case),
        "histories of all cases": lambda kept: kept.histories(),
        "a whole night, samples too": lambda kept: kept.night("night-0000"),
        SITE: _site,
    }
    took: dict[str, float] = {}
    for words, query in asked.items():
        times = []
        for _ in range(2 if words == SITE else 5):
            began, worked = time.perf_counter(), time.process_time()
            with history.open(url) as kept:
                found = query(kept)
            times.append((time.perf_counter() - began, time.process_time() - worked))
            told = _size(found)
            del found
        took[words], worked = sorted(times)[len(times) // 2]
        print(f"{words}: {took[words]:.3f} s, {worked:.3f} s of processor ({told})", flush=True)
    return took


def _site(kept: History) -> dict[str, int]:
    """Ask for all that pages of every case show, a case at a time; return how much it was."""
    counts = dict.fromkeys(("cases", "nights", "points", "verdicts", "manifests"), 0)
    for case in kept.cases():
        points = kept.points(case)
        nights = kept.by_metric(case)
        findings = kept.findings(case, "latency")
        manifests = kept.manifests(point.manifest_sha256 for point in points)
        for name, found in zip(counts, ((case,), nights["latency"], points, findings, manifests), strict=True):
            counts[name] += len(found)
    for device in DEVICES:
        kept.health(device)
    kept.latest("bench")
    return counts


def _size(found: Any) -> str:
    if isinstance(found, NightRecord):
        return f"{len(found.runs)} runs"
    if isinstance(found, dict):
        return ", ".join(f"{count} {name}" for name, count in found.items())
    if found and isinstance(found[0], history.CaseHistory):
        return f"{len(found)} cases, {sum(night.runs for one in found for night in one.nights)} runs"
    return f"{len(found)} {'nights' if found and isinstance(found[0], history.CaseNight) else 'runs'}"


def _fill(url: str, records: int, samples: int) -> int:
    """Write night after night until there are enough records; return their number.

    The first night goes through `History.keep`; later ones are its rows and blobs again, with ids, times and latencies of
    their own, since packing a hundred thousand runs is not what is timed here.
    """
    rng = np.random.default_rng(0)
    with history.open(url) as kept:
        first, began = _night(0)
        kept.begin(first)
        kept.keep(*list(_runs(first, began, samples, rng))[:records])
        kept.end(first.id, (began + timedelta(hours=3)).isoformat())
    opened = Database(url)
    count, number = min(records, len(CASES) * len(ROLES)), 1
    with opened.reading() as connection:
        tables = (schema.runs, schema.records, schema.conditions)
        rows = [[dict(row._mapping) for row in connection.execute(select(table))] for table in tables]
    while count < records:
        night, began = _night(number)
        with opened.writing() as connection:
            keeping.begin(connection, night)
            added = _copied(connection, night, began, rows, records - count, rng)
            keeping.end(connection, night.id, (began + timedelta(hours=3)).isoformat())
        count, number = count + added, number + 1
    opened.close()
    return count


def _night(number: int) -> tuple[NightRecord, datetime]:
    began = datetime(2024, 1, 1, 1, tzinfo=UTC) + timedelta(days=number)
    return NightRecord(f"night-{number:04}", "bench", began.isoformat(), None, CASES), began


def _copied(
    connection: Connection, night: NightRecord, began: datetime, rows: list[list[dict[str, Any]]], most: int,
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """Write the first night's rows again as those of another night."""
    runs, records, around = rows
    shas = {run["case_id"]: digest.of_bytes(f"{run['case_id']} {night.id}".encode()) for run in runs[:most]}
    connection.execute(
        schema.manifests.insert(),
        [
            {"sha256": sha, "body": packing.as_blob(_manifest(CASES[0], night.id, str(case)))}
            for case, sha in shas.items()
        ],
    )
    since = runs[0]["at_s"]
    made = []
    for run, factor in zip(runs[:most], rng.normal(1, 0.01, len(runs)).tolist(), strict=False):
        at = began + timedelta(seconds=run["at_s"] - since)
        changed = {name: run[name] * factor for name in ("latency_ms", "latency_low_ms", "latency_high_ms", "p90_ms")}
        new = {"manifest_sha256": shas[run["case_id"]]} if run["role"] == "new" else {}
        its = {"id": _moved(run["id"], night), "night_id": night.id, "at": at.isoformat(), "at_s": at.timestamp()}
        made.append(run | changed | its | new)
    there = {run["id"] for run in made}
    connection.execute(schema.runs.insert(), made)
    for table, every in ((schema.records, records), (schema.conditions, around)):
        moved = [row | {"run_id": _moved(row["run_id"], night)} for row in every]
        connection.execute(table.insert(), [row for row in moved if row["run_id"] in there])
    connection.execute(
        schema.findings.insert(), [_judged(night, case, metric) for case in shas for metric in history.METRICS]
    )
    return len(made)


def _judged(night: NightRecord, case_id: int, metric: str) -> dict[str, Any]:
    """Return the row of a verdict."""
    why = "no change beyond what 20 nights of history show of this device's noise"
    verdict = Verdict(metric, "same", 0.001, (-0.004, 0.006), 0.61, 0.0033, why, 0, 1, None, None, 0.011, 0.4)
    return {
        "night_id": night.id, "case_id": case_id, "metric": metric, "decision": "same", "effect": verdict.effect,
        "baseline_sha256": "a" * 64, "artifact_sha256": "b" * 64, "verdict": json.dumps(packing.plain(verdict)),
    }  # fmt: skip


def _moved(run_id: str, night: NightRecord) -> str:
    return f"{night.id}/{run_id.partition('/')[2]}"


def _runs(night: NightRecord, began: datetime, samples: int, rng: np.random.Generator) -> Iterator[Run]:
    for place, case in enumerate(CASES):
        shape = _bench(case, rng)
        manifests = {role: _manifest(case, night.id, role) for role in ("new", "old")}
        for ordinal, role in enumerate(ROLES):
            yield Run(
                id=f"{night.id}/{case.name}/{role}/{ordinal}", night=night.id, suite=night.suite, case=case, role=role,
                ordinal=ordinal, at=(began + timedelta(minutes=8 * place + ordinal)).isoformat(),
                artifact_sha256=f"{place:06}{role == 'old':02}" * 8, bench=_again(shape, samples, rng),
                manifest=manifests[role],
            )  # fmt: skip


def _manifest(case: Case, night: str, role: str) -> dict[str, Any]:
    layers = [{"name": f"layer{number}", "sqnr_db": 30 + number} for number in range(40)]
    made = night if role == "new" else "first"
    return {"model": case.model, "made": made, "size_bytes": 96_000, "quality": {"got": 0.76}, "layers": layers}


def _bench(case: Case, rng: np.random.Generator) -> BenchRecord:
    """Return a run with everything a Raspberry Pi tells."""
    board = Board(
        machine_id="3c5a9d1e7b2f4a608c1d2e3f40516273", boot_id="b6a1f2c8", model="Raspberry Pi 4 Model B Rev 1.4",
        system="Debian GNU/Linux 12 (bookworm)", kernel="6.6.31+rpt-rpi-v8", architecture="aarch64", abi="arm64",
        word_bits=64, cores=4, core_names=("Cortex-A72",) * 4, features=("fp", "asimd"), memory_mib=3794, free_mib=21_904,
        page_bytes=4096, libc="glibc 2.36", python="3.11.2", runtimes={"ai-edge-litert": "2.3.0"}, governor="ondemand",
        clock_mhz=1800.0,
    )  # fmt: skip
    moments = tuple(
        Snapshot(
            100.0 + second, 1.7e9 + second, (1800.0,) * 4, ("performance",) * 4, {"cpu-thermal": 52.0 + second / 3}, 0
        )
        for second in range(12)
    )
    around = Conditions(board, moments[0], moments[1:-1], moments[-1], 4, (0, 1, 2, 3), 1)
    p50 = MODELS[case.model]
    operators = tuple(Operator(f"CONV_2D:{number}", p50 / 20, 0.05) for number in range(20))
    return BenchRecord(
        device=case.device, target=case.target, transport="ssh", simulated=False, artifact_sha256="0" * 64,
        runtime=Runtime("ai-edge-litert", "2.3.0", "XNNPACK"),
        latency_ms=Latency(p50, p50, None, None, p50, p50, 0.0, (p50, p50), 0), samples_ms=None, init_ms=4.7,
        first_inference_ms=p50 * 1.2, memory=Memory(21.6, 3.9, "VmHWM"), operators=operators,
        golden=Golden(16, 0.0039, 1, True), quality=None, conditions=around, valid=True, reasons=(), doubts=(),
        warmup_ms=tuple(rng.normal(p50, 0.1, 20).round(6).tolist()), made="2026-11-22T04:12:09+00:00",
    )  # fmt: skip


def _again(shape: BenchRecord, samples: int, rng: np.random.Generator) -> BenchRecord:
    """Return the run made once more: samples of their own, and the figures that follow from them."""
    level = (shape.latency_ms.p50 or 1.0) * float(rng.normal(1, 0.01))
    drawn = (level + rng.exponential(level * 0.01, samples)).round(6)
    starts = np.concatenate([[0.0], np.cumsum(drawn + 0.02)[:-1]]).round(6)
    p50, mean = float(np.median(drawn)), float(drawn.mean())
    low, high, p90 = (float(one) for one in np.quantile(drawn, (0.47, 0.53, 0.9)))
    spread = float(drawn.std())
    figures = Latency(mean, p50, p90, None, float(drawn.min()), float(drawn.max()), spread / mean, (low, high), samples)
    samples_ms, starts_ms = tuple(drawn.tolist()), tuple(starts.tolist())
    return dataclasses.replace(shape, latency_ms=figures, samples_ms=samples_ms, starts_ms=starts_ms)


if __name__ == "__main__":
    main()
