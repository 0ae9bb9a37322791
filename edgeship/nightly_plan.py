"""What a night will do: which artifacts are built, and which cases are measured on which devices; nothing is run yet."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from edgeship import inventory, store
from edgeship import model as models
from edgeship import recipe as recipes
from edgeship import target as targets
from edgeship.device import Device
from edgeship.errors import BadInput, EdgeshipError, NothingToDo, near_miss, unknown
from edgeship.nightly_record import Case
from edgeship.plan import Order
from edgeship.suite import ModelOptions, Pattern, Suite

TAG, ANY = "tag:", "any:"


@dataclass(frozen=True)
class Artifact:
    """What is built once, however many devices it is measured on; `trouble` is why it cannot be."""

    model: str
    target: str
    recipe: str
    order: Order
    measured_data: Path | None = None
    trouble: EdgeshipError | None = None

    @property
    def name(self) -> str:
        """Return it in one word."""
        return f"{self.model}/{self.target}/{self.recipe}"

    def case(self, device: Device) -> Case:
        """Return the case that it makes on a device."""
        return Case(self.model, self.target, self.recipe, device.name)


@dataclass(frozen=True)
class Task:
    """One artifact to be measured on one of these devices: the first, unless another is free or the first is out."""

    artifact: Artifact
    devices: tuple[Device, ...]

    @property
    def case(self) -> Case:
        """Return the case as it is planned."""
        return self.artifact.case(self.devices[0])


@dataclass(frozen=True)
class NightPlan:
    """A night, whole: its tasks in order, and what of the matrix is left out for a reason."""

    suite: Suite
    tasks: tuple[Task, ...]
    skipped: tuple[str, ...] = field(default=())
    only: str | None = None

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Return what has to be built, each once."""
        return tuple({task.artifact.name: task.artifact for task in self.tasks}.values())

    @property
    def devices(self) -> tuple[Device, ...]:
        """Return the devices that take part, each once."""
        return tuple({device.name: device for task in self.tasks for device in task.devices}.values())


def plan(suite: Suite, devices_file: Path | None = None, *, only: str | None = None) -> NightPlan:
    """Return what a suite comes to with the devices there are.

    Raises:
        BadInput: a device, model or recipe that is not known; the text starts with the suite's file.
        NothingToDo: nothing is left to measure.
    """
    pools = tuple(_pools(suite, inventory.place(devices_file)))
    chosen = [_model(suite, entry) for entry in suite.models]
    _check_names(suite, chosen)
    tasks, skipped = list[Task](), list[str]()
    made: dict[str, Artifact] = {}
    whole = set[Case]()
    for pool, model, recipe in product(pools, chosen, suite.recipes or (None,)):
        kind = targets.read(pool[0].target)
        done = _recipe(suite, recipe or kind.default_recipe)
        refused = targets.refusal(kind, done.parts)
        cases = [Case(model.name, kind.name, done.name, one.name) for one in pool]
        whole.update(cases)
        devices = tuple(one for one, case in zip(pool, cases, strict=True) if _asked(suite, case, only))
        if not devices:
            continue
        if refused is not None:
            skipped.append(f"{model.name}/{kind.name}/{done.name}: {kind.name} refuses it: {refused}")
            continue
        name = f"{model.name}/{kind.name}/{done.name}"
        if name not in made:
            made[name] = _artifact(suite, model, pool[0].target, kind.name, recipe, done.name)
        tasks.append(Task(made[name], devices))
    _check_patterns(suite, whole)
    if not tasks:
        raise _nothing(suite, only, skipped, chosen, pools)
    return NightPlan(suite, tuple(tasks), tuple(dict.fromkeys(skipped)), only)


def options(planned: NightPlan) -> dict[str, Any]:
    """Return what a night's record says of its suite, as JSON values."""
    suite = planned.suite
    table = json.loads(suite.model_dump_json(exclude={"path", "sha256"}, exclude_defaults=True))
    pools = {task.case.name: [device.name for device in task.devices] for task in planned.tasks if task.devices[1:]}
    found = {"suite": table, "suite_file": suite.path.name, "suite_sha256": suite.sha256, "tags": list(suite.tags)}
    return {**found, "pools": pools, "skipped": list(planned.skipped), "only": planned.only}


@dataclass(frozen=True)
class _Model:
    """A model of the suite: what cases call it, what `build` takes, and why it cannot."""

    name: str
    source: str
    said: ModelOptions
    trouble: EdgeshipError | None = None


def _model(suite: Suite, entry: str) -> _Model:
    """Return a model by its entry in `models`; a file that is not there tonight is a fault of its cases, not of the suite.

    Raises:
        BadInput: it is no file, and no sample of that name either.
    """
    said = suite.options_of(entry)
    named = said.source or entry
    path = suite.folder / Path(named).expanduser()
    source = str(path) if path.exists() else named
    try:
        found = models.find(source)
    except EdgeshipError as error:
        if not Path(named).suffix and "/" not in named and not path.exists():
            raise BadInput(f"{suite.path}: 'models': {error.message}", hint=error.hint) from None
        return _Model(entry if said.source else Path(named).stem, source, said, error)
    return _Model(entry if said.source else found.name, source, said)


def _check_names(suite: Suite, chosen: Iterable[_Model]) -> None:
    seen: dict[str, str] = {}
    for one in chosen:
        if one.name in seen:
            text = f"{suite.path}: {seen[one.name]} and {one.source} are both called '{one.name}'"
            raise BadInput(text, hint='give one a name of its own: [model.NAME] with source = "…"')
        seen[one.name] = one.source


def _recipe(suite: Suite, named: str) -> recipes.Recipe:
    path = suite.folder / named
    try:
        return recipes.read(str(path) if named.endswith(".toml") and path.exists() else named)
    except BadInput as error:
        raise BadInput(f"{suite.path}: 'recipes': {error.message}", hint=error.hint) from None


def _artifact(suite: Suite, model: _Model, target: str, kind: str, recipe: str | None, name: str) -> Artifact:
    said = model.said
    out = store.home() / "nightly" / suite.name / model.name / kind / name
    file = None if recipe is None else str(suite.folder / recipe) if recipe.endswith(".toml") else recipe
    order = Order(
        model=model.source, target=target, recipe=file, data=_beside(suite, said.data),
        calibration=tuple(suite.folder / each for each in said.calibration), scale=said.scale, offset=said.offset,
        shapes=dict(said.shapes), keep_layout=said.keep_layout, metric=said.metric, max_drop=said.max_drop,
        seed=said.seed, trust=said.trust, out=out,
    )  # fmt: skip
    return Artifact(model.name, kind, name, order, _beside(suite, said.measured_data), model.trouble)


def _beside(suite: Suite, file: str | None) -> Path | None:
    return None if file is None else suite.folder / Path(file).expanduser()


def _check_patterns(suite: Suite, whole: Collection[Case]) -> None:
    """Refuse a pattern that fits no case, whatever is left out tonight: a limit that is misspelt would never be missed."""
    tables = [(key, pattern) for key in ("include", "exclude", "budget") for pattern in getattr(suite, key)]
    for key, pattern in tables:
        if any(pattern.fits(case) for case in whole):
            continue
        parts = {part: word for part in Pattern.model_fields if (word := getattr(pattern, part)) != "*"}
        known = {part: sorted({getattr(case, part) for case in whole}) for part in parts}
        alone = [part for part, word in parts.items() if not any(fnmatchcase(one, word) for one in known[part])]
        guess = near_miss(parts[alone[0]], known[alone[0]]) if alone else None
        question = f"; did you mean '{guess}'?" if guess else ""
        told = ", ".join(f'{part} = "{parts[part]}"' for part in alone or parts)
        raise BadInput(
            f"{suite.path}: [[{key}]] {told} fits no case{question}",
            hint="edgeship nightly SUITE --dry-run lists them, without this table",
        )


def _asked(suite: Suite, case: Case, only: str | None) -> bool:
    words = (case.name, case.model, case.target, case.recipe, case.device)
    return suite.wants(case) and (only is None or any(fnmatchcase(word, only) for word in words))


def _pools(suite: Suite, file: Path) -> Iterator[tuple[Device, ...]]:
    """Give each device by itself, and of `any:WORD` those of one target together; none stands by itself twice."""
    known = inventory.read(file)
    alone = set[str]()
    for entry in suite.devices:
        if entry.startswith(ANY):
            tagged = _tagged(suite, known.values(), entry, ANY)
            for target in dict.fromkeys(device.target for device in tagged):
                yield tuple(device for device in tagged if device.target == target)
            continue
        for device in _named(suite, known, entry, file):
            if device.name not in alone:
                alone.add(device.name)
                yield (device,)


def _named(suite: Suite, known: dict[str, Device], entry: str, file: Path) -> Sequence[Device]:
    if entry.startswith(TAG):
        return _tagged(suite, known.values(), entry, TAG)
    if any(sign in entry for sign in "*?["):
        found = [device for name, device in known.items() if fnmatchcase(name, entry)]
        if not found:
            raise BadInput(f"{suite.path}: 'devices': no device fits '{entry}'", hint="edgeship devices list")
        return found
    try:
        return (inventory.find(entry, file),)
    except EdgeshipError as error:
        raise BadInput(f"{suite.path}: 'devices': {error.message}", hint=error.hint) from None


def _tagged(suite: Suite, known: Iterable[Device], entry: str, prefix: str) -> list[Device]:
    word, devices = entry.removeprefix(prefix), list(known)
    found = [device for device in devices if any(fnmatchcase(tag, word) for tag in device.tags)]
    if not found:
        tags = {tag for device in devices for tag in device.tags}
        if not tags:
            hint = f"edgeship devices add NAME … --tag {word}"
            raise BadInput(f"{suite.path}: 'devices': {entry}: no device has a tag", hint=hint)
        raise unknown("tag", word, tags, where=f"{suite.path}: 'devices': {entry}")
    return found


def _nothing(
    suite: Suite, only: str | None, skipped: Sequence[str], chosen: Sequence[_Model], pools: Sequence[Sequence[Device]]
) -> EdgeshipError:  # fmt: skip
    if only is not None:
        words = [*(one.name for one in chosen), *(device.name for pool in pools for device in pool), *suite.recipes]
        guess = near_miss(only, words)
        question = f"; did you mean '{guess}'?" if guess else ""
        return NothingToDo(
            f"{suite.path}: no case fits --only {only}{question}", hint="edgeship nightly SUITE --dry-run lists all"
        )
    if skipped:
        return BadInput(f"{suite.path}: nothing is left to measure: {skipped[0]}")
    return NothingToDo(f"{suite.path}: 'targets', 'include' and 'exclude' leave no case to measure")
