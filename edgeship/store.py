"""Artifacts by sha256, and a cache of stages: a stage runs again only when something that decides its result changed.

Everything is written beside and renamed, so a kill at any line leaves the store readable. Builds hold a shared lock,
pruning an exclusive one; the kernel frees both when their holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgeship import digest, scratch
from edgeship.errors import BadInput, NothingToDo, StageFailed

T = TypeVar("T")
Outcome = Literal["ran", "cached"]
KEPT_LOGS = 50
CODE = (
    "edgeship.stages"  # what does any stage's work, checks it, or prepares what it is fed: it and all that it imports
)
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Step:
    """What decides a stage's result, and so its cache key.

    Attributes:
        stage: its name, as shown to users.
        slot: which build it belongs to, so that a changed step can say what changed since the last time.
        inputs: what it reads → sha256.
        options: what it was told, as JSON values.
        tools: package → version of all that takes part.
        code: the module whose source, and all that it imports, does the work.
    """

    stage: str
    slot: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    code: str = CODE

    def identity(self) -> dict[str, dict[str, Any]]:
        """Return all that decides the result, in the words that `why` uses."""
        return {
            "input": dict(self.inputs),
            "option": json.loads(json.dumps(dict(self.options))),
            "tool": dict(self.tools),
            "code": {self.code: digest.of_code(self.code)},
        }


@dataclass(frozen=True)
class Done(Generic[T]):
    """A stage's result: what it said (`facts`), the files it made, and why it ran or did not."""

    stage: str
    outcome: Outcome
    why: str
    seconds: float
    tools: Mapping[str, str]
    facts: T
    files: Mapping[str, str]


class Store:
    """The folder of artifacts and stage results. Use it with `with`: that holds its lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.stages = root / "stages"
        self.latest = root / "latest"
        self.work = root / "work"
        self.logs = root / "logs"
        self._lock: int | None = None

    def __enter__(self) -> Store:
        try:
            for folder in (self.objects, self.stages, self.latest, self.work, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise BadInput(
                f"{self.root}: the store cannot be written: {error.strerror}",
                hint="set EDGESHIP_HOME to a folder of yours",
            ) from None
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def run(self, step: Step, facts: type[T], work: Callable[[Path], T], *, again: str | None = None) -> Done[T]:
        """Return the stage's result, from the cache when nothing that decides it changed.

        Args:
            step: what decides the result.
            facts: the dataclass that `work` returns; it is kept as JSON.
            work: does the stage in the empty folder it is given; every file it leaves there is kept.
            again: run even so, for this reason.

        Raises:
            StageFailed: there is no space left for the result.
        """
        identity = step.identity()
        key = digest.of_value([step.stage, identity])
        record, why = (None, again) if again else self._cached(step, identity, key)
        adapter = TypeAdapter(facts)
        if record is not None:
            with contextlib.suppress(ValidationError):
                found = adapter.validate_json(json.dumps(record["facts"]))
                self._remember(step, identity)
                return Done(step.stage, "cached", "unchanged", record["seconds"], step.tools, found, record["files"])
            why = "its stored result could not be read"
        began = time.monotonic()
        with self.scratch() as folder, no_space_named(self.root):
            result = work(folder)
            files = {path.name: self.keep(path) for path in scratch.contents(folder)}
            seconds = time.monotonic() - began
            body = {
                "stage": step.stage,
                "facts": adapter.dump_python(result, mode="json"),
                "files": files,
                "seconds": seconds,
            }
            write_whole(self.stages / f"{key}.json", _sealed(body))
            self._remember(step, identity)
        return Done(step.stage, "ran", why, seconds, step.tools, result, files)

    def _cached(self, step: Step, identity: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
        """Return the stored record or None, and why the stage has to run."""
        record = _read_sealed(self.stages / f"{key}.json")
        if record is None:
            return None, self._difference(step, identity)
        broken = [name for name, sha in record["files"].items() if not self.intact(sha)]
        return (None, f"its stored {broken[0]} was missing or damaged") if broken else (record, "unchanged")

    def _difference(self, step: Step, identity: dict[str, Any]) -> str:
        """Say in words what changed since the slot's last run."""
        before = _read_sealed(self.latest / _slot_name(step))
        if before is None:
            return "first build"
        changes: list[str] = []
        for kind, now in identity.items():
            then = before.get(kind, {})
            for name in sorted({*now, *then}):
                if now.get(name) != then.get(name):
                    changes.append(_change(kind, name, then.get(name), now.get(name)))
        return "; ".join(dict.fromkeys(changes)) or "its stored result was gone"

    def _remember(self, step: Step, identity: dict[str, Any]) -> None:
        write_whole(self.latest / _slot_name(step), _sealed(identity))

    def keep(self, path: Path) -> str:
        """Take a file into the store and return its sha256; the file itself may be moved."""
        sha = digest.of_file(path)
        target = self.path(sha)
        if not self.intact(sha):
            target.parent.mkdir(exist_ok=True)
            beside = target.with_name(f".{sha}.{os.getpid()}.{time.monotonic_ns()}")
            try:
                shutil.copyfile(path, beside)
                _flush(beside)
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
        return sha

    def path(self, sha: str) -> Path:
        """Return where an artifact lies."""
        return self.objects / sha[:2] / sha

    def intact(self, sha: str) -> bool:
        """Say whether an artifact is there and is what its name says."""
        path = self.path(sha)
        return path.is_file() and digest.of_file(path) == sha

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder on the store's file system that is gone afterwards."""
        with no_space_named(self.root), scratch.folder(self.work) as made:
            yield made

    def log(self, stage: str) -> Path:
        """Return a new log's path, and remove the oldest beyond the last fifty."""
        for old in sorted(self.logs.glob("*.log"), key=lambda path: path.name)[:-KEPT_LOGS]:
            old.unlink(missing_ok=True)
        return self.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{stage}.log"

    def entries(self) -> list[Entry]:
        """Return the stage results, newest first."""
        found = []
        for path in self.stages.glob("*.json"):
            record = _read_sealed(path)
            if record is not None:
                sizes = [self.path(sha).stat().st_size for sha in record["files"].values() if self.path(sha).is_file()]
                found.append(Entry(path.stem, record["stage"], path.stat().st_mtime, sum(sizes), record["files"]))
        return sorted(found, key=lambda entry: -entry.made)

    def prune(self, *, keep_days: float) -> Pruned:
        """Remove stage results older than some days, then every artifact that no result names.

        Raises:
            NothingToDo: a build is running; the store is left as it is.
        """
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NothingToDo(
                f"{self.root}: a build is running; nothing was pruned", hint="try again when it has ended"
            ) from None
        limit = time.time() - keep_days * 86400
        entries = self.entries()
        old = [entry for entry in entries if entry.made < limit]
        for entry in old:
            (self.stages / f"{entry.key}.json").unlink(missing_ok=True)
        named = {sha for entry in entries if entry not in old for sha in entry.files.values()}
        unnamed = [path for path in self.objects.glob("*/*") if path.name not in named]
        freed = sum(path.stat().st_size for path in unnamed)
        left = [path for folder in (self.stages, self.latest) for path in folder.iterdir() if path.name.startswith(".")]
        forgotten = [path for path in self.latest.glob("*.json") if path.stat().st_mtime < limit]
        for path in (*unnamed, *left, *forgotten):  # `left`: what a kill left of writing; nobody writes now
            path.unlink(missing_ok=True)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return Pruned(len(old), len(unnamed), freed)


@dataclass(frozen=True)
class Entry:
    """One stage result in the store; `made` is seconds since the epoch."""

    key: str
    stage: str
    made: float
    size_bytes: int
    files: Mapping[str, str]


@dataclass(frozen=True)
class Pruned:
    """What pruning removed; `environments` are those of converters that are not used any more."""

    results: int
    artifacts: int
    freed_bytes: int
    environments: int = 0


def home() -> Path:
    """Return `$EDGESHIP_HOME`, else the platform's user data folder."""
    named = os.environ.get("EDGESHIP_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("edgeship"))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: it is there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        beside.write_bytes(content)
        _flush(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def no_space_named(where: Path) -> Iterator[None]:
    """Turn a full disk, quota or limit on a file's size into a refusal that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise StageFailed(
            f"{error.filename2 or error.filename or where}: {(error.strerror or 'no space left').lower()}",
            hint="free some space, or `edgeship store prune`",
        ) from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _slot_name(step: Step) -> str:
    return f"{step.stage}-{digest.of_bytes(os.fsencode(step.slot))}.json"


def _change(kind: str, name: str, before: Any, now: Any) -> str:
    if kind == "code":
        return "edgeship's code changed"
    if kind == "input":
        return (
            f"{name} changed"
            if before is not None and now is not None
            else f"{name} is new"
            if before is None
            else f"{name} is gone"
        )
    return f"{kind} {name}: {json.dumps(before)} to {json.dumps(now)}"


def _sealed(body: dict[str, Any]) -> bytes:
    """Return a JSON object beside its own sha256, so that a flipped bit is seen."""
    return json.dumps({"sha256": digest.of_value(body), "body": body}).encode()


def _read_sealed(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that was sealed, or None when the file is missing or damaged."""
    try:
        sealed = json.loads(path.read_bytes())
        body: dict[str, Any] = sealed["body"]
        return body if digest.of_value(body) == sealed["sha256"] else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
