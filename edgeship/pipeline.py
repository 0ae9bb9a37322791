"""The path, on one page: build() takes a source model to a verified artifact, ship() takes that to devices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship import bench_manifest, manifest, out_folder, wording
from edgeship import plan as plans
from edgeship.compilation import COMPILED
from edgeship.measurement import BenchRecord
from edgeship.out_folder import ARTIFACT, MANIFEST, REPORT
from edgeship.plan import Order, Plan
from edgeship.progress import Listener, StageTold
from edgeship.report import build_page
from edgeship.run import BuildRecord
from edgeship.run_devices import Failed
from edgeship.store import Store, home

if TYPE_CHECKING:
    from edgeship.benchmarking import BenchOrder

__all__ = ["Order", "build", "ship"]


def build(order: Order, listener: Listener | None = None) -> BuildRecord:
    """Turn a source model into a verified artifact in its out folder, and return the record of it.

    A verdict that is negative is no error here: the record's `passed` says it.

    Raises:
        BadInput: something given cannot be used; nothing was run.
        MissingTool: an extra is not installed.
        StageFailed: a stage broke, or its result is not the same model; the out folder is as it was.
    """
    plan = plans.prepare(order)
    heard = listener or Listener()
    own_code = ":" in (plan.order.metric or plan.recipe.metric or plan.model.metric or "") or bool(
        order.trust or plan.model.entry
    )
    again = "--fresh" if order.fresh else "code of yours may have changed" if own_code else None
    with Store(home()) as store:
        done = store.run(plans.step(plan), BuildRecord, partial(_walk, store, plan, heard), again=again)
        made = done.facts
        if done.outcome == "cached":
            made = manifest.repeated(made)
            _tell_again(made, heard)
        _publish(store, plan.out, made, ())
    return made


def ship(
    order: Order, measuring: BenchOrder, listener: Listener | None = None, *, stop: bool = False
) -> tuple[BuildRecord, tuple[BenchRecord | Failed, ...]]:
    """Build, then measure on devices, and write both on one page.

    Args:
        measuring: what to measure; its artifact is the build's.
        stop: do not measure what has missed its budget.

    Raises:
        As `build` and `benchmarking.bench`; what was built stays.
    """
    from edgeship import benchmarking

    heard = listener or Listener()
    benchmarking.check(measuring)
    made = build(order, heard)
    if stop and not made.passed:
        return made, ()
    out = Path(made.artifact).parent
    results = benchmarking.bench(replace(measuring, artifact=str(out)), heard)
    with Store(home()) as store:
        _publish(store, out, made, results)
    return made, results


def _publish(store: Store, out: Path, made: BuildRecord, results: tuple[BenchRecord | Failed, ...]) -> None:
    """Write the out folder: the artifact, its manifest, and the page with what devices said of it."""
    benches = [one for one in results if isinstance(one, BenchRecord)]
    failed = [one for one in results if isinstance(one, Failed)]
    page = build_page.render(made, benches=benches, failed=failed, compiled=home() / "templates")
    table = manifest.as_bytes(manifest.manifest(made))
    files: dict[str, Path | bytes] = {
        ARTIFACT: store.path(made.uncompiled.sha256 if made.uncompiled else made.sha256),
        MANIFEST: table,
        REPORT: page.encode(errors="backslashreplace"),
    }
    files |= {
        f"bench-{one.device.replace(':', '+')}.json": manifest.as_bytes(bench_manifest.contract(one)) for one in benches
    }
    if made.uncompiled:
        files[COMPILED] = store.path(made.sha256)
    before = manifest.compiled_before(out)
    out_folder.write(out, files)
    if before and not made.uncompiled:  # an earlier build's, of another model than the one beside it now
        (out / COMPILED).unlink(missing_ok=True)


def _walk(store: Store, plan: Plan, heard: Listener, folder: Path) -> BuildRecord:
    """Run the stages; what they need is loaded only now, for a build of which nothing changed needs none of it."""
    from edgeship import path

    return path.walk(store, plan, heard, folder)


def _tell_again(made: BuildRecord, heard: Listener) -> None:
    """Say of an unchanged build what was said when it ran."""
    for entry in made.advice:
        heard.on_advice(entry)
    check, share, quality = made.import_check, made.quantized, made.quality
    words = {
        "import": wording.imported(check.checked_against, check.relative_error),
        "quantize": wording.quantized(share.operators, share.of, share.weight_share),
        "verify": wording.verified(quality.metric, quality.reference, quality.got, quality.examples),
        "compile": wording.compiled(made.compiler) if made.compiler else "",
    }
    for run in made.stages:
        heard.on_stage(StageTold(run.stage, run.outcome, run.why, run.seconds, words.get(run.stage, "")))
