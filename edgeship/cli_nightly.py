"""The command for a night over a suite: parse, call, print, exit code."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeship.options import HistoryOption, InventoryOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeship.errors import EdgeshipError
    from edgeship.front import Front
    from edgeship.nightly_plan import NightPlan
    from edgeship.nightly_record import NightRecord


def nightly(
    context: typer.Context,
    suite: Annotated[Path, typer.Argument(help="The suite: a TOML file.")],
    *,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML for a CI server to this file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a summary for a pull request to this file.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the site of the history into this folder.")] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Only the cases, models or devices that fit this glob.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and do nothing.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the suite's unfinished night, if there is one.")
    ] = False,
    history: HistoryOption = None,
    devices: InventoryOption = None,
) -> None:
    """Measure a suite over your devices, judge it by their history, and keep all of it."""
    from edgeship import history as histories
    from edgeship import nightly as nights
    from edgeship import nightly_outcome, nightly_plan, nightly_reports
    from edgeship import suite as suites

    screen: Front = context.obj
    planned = nightly_plan.plan(suites.read(suite), devices, only=only)
    if dry_run:
        screen.show(_table(planned), lambda terminal: _show_plan(planned))
        return
    files = nightly_reports.Files(junit, markdown, html)
    nightly_reports.check(files)
    if not (screen.json or screen.quiet):
        _show_plan(planned)
    begun: list[NightRecord] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled CI job: the report is written even so
    with histories.open(history) as kept:
        try:
            with screen.listening() as listener:
                night = nights.run(planned, kept, listener, resume=resume, on_begin=begun.append)
        except BaseException:
            if begun:
                _tell(nightly_reports.write(files, kept, kept.night(begun[-1].id)))
            raise
        troubles = nightly_reports.write(files, kept, night)
        code = nightly_outcome.exit_code(night) or next((each.exit_code for each in troubles), 0)
        screen.show(_answer(night, code, files, troubles), lambda terminal: _show_night(night))
        _tell(troubles)
    if code:
        raise typer.Exit(code)


def _table(planned: NightPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    cases = [{**asdict(task.case), "devices": [one.name for one in task.devices]} for task in planned.tasks]
    troubles = {one.name: one.trouble.message for one in planned.artifacts if one.trouble is not None}
    return {
        "suite": planned.suite.name, "artifacts": [one.name for one in planned.artifacts], "cases": cases,
        "skipped": list(planned.skipped), "troubles": troubles,
    }  # fmt: skip


def _answer(night: NightRecord, code: int, files: Any, troubles: Iterable[EdgeshipError]) -> dict[str, Any]:
    """Return a night as JSON values."""
    from edgeship import nightly_outcome

    verdicts = [{**asdict(one.case), **asdict(one.verdict), "baseline_sha256": one.baseline_sha256,
                 "artifact_sha256": one.artifact_sha256} for one in night.findings]  # fmt: skip
    faults = [
        {**asdict(run.case), "role": run.role, **asdict(run.fault)} for run in night.runs if run.fault is not None
    ]
    return {
        "night": night.id, "suite": night.suite, "began": night.began, "ended": night.ended, "exit": code,
        "cases": [asdict(case) for case in night.cases], "runs": len(night.runs), "verdicts": verdicts, "faults": faults,
        "standing": len(list(nightly_outcome.standing(night))), "health": [asdict(event) for event in night.health],
        **{name: None if path is None else str(path) for name, path in asdict(files).items()},
        "not_written": [each.message for each in troubles],
    }  # fmt: skip


def _tell(troubles: Iterable[EdgeshipError]) -> None:
    """Tell of reports that could not be written; the night goes before them."""
    from edgeship.report.terminal import stderr

    for each in troubles:
        stderr().print(f"error: {each.message}", markup=False, highlight=False, soft_wrap=True)


def _show_plan(planned: NightPlan) -> None:
    from edgeship.nightly_record import NightRecord
    from edgeship.report.night_terminal import NightTerminal

    cases = tuple(task.case for task in planned.tasks)
    pools = [
        f"{task.artifact.name}: on whichever is free of {', '.join(one.name for one in task.devices)}"
        for task in planned.tasks
        if task.devices[1:]
    ]
    troubles = [f"{one.name}: {one.trouble.message}" for one in planned.artifacts if one.trouble is not None]
    night = NightRecord("not begun", planned.suite.name, "", None, cases)
    notes = [*dict.fromkeys(pools), *planned.skipped, *troubles]
    NightTerminal().plan(night, artifacts=len(planned.artifacts), notes=notes)


def _show_night(night: NightRecord) -> None:
    from edgeship.report.night_terminal import NightTerminal

    NightTerminal().night(night)


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(nightly)
