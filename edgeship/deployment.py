"""deploy() and rollback(): a versioned model at a path on a board, switched atomically, the one before it kept.

The path is a link to one folder of `<path>.versions/`; an app reads `<path>/model.tflite`. A version is written whole
and flushed to the disk before the link is renamed into place, so that a power cut at any moment leaves the link on a
whole version, the old one or the new one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeship import attempt, benchmarking, compiled, deliverable, flatbuffer, host, inventory, target
from edgeship.compilation import COMPILED
from edgeship.deliverable import Deliverable
from edgeship.device import Device
from edgeship.errors import BadInput, DeviceFault, NothingToDo, VerdictNegative
from edgeship.measurement import Golden, Trial, Wanted
from edgeship.out_folder import ARTIFACT, MANIFEST
from edgeship.progress import Listener
from edgeship.remote import quote
from edgeship.run_devices import Deployed
from edgeship.runtimes import RUNTIMES
from edgeship.session import Session
from edgeship.store import Store, home
from edgeship.target import Target

_TIMEOUT_S = 120.0
_ONCE = Wanted(threads=1, cpus=(), batch=1, runs=1, min_seconds=0.0, max_seconds=1.0, warmup_seconds=0.0)


@dataclass(frozen=True)
class _There:
    """What stands at the path: the version in effect and the one before it, by the names of their folders."""

    path: str
    current: str | None
    previous: str | None
    sha256: str | None


def deploy(
    artifact: str, device: str, to: str, listener: Listener, *, inventory_file: Path | None = None, wait_s: int = 0
) -> Deployed:
    """Leave an artifact with its manifest at a path on a board.

    Raises:
        BadInput: the artifact or the path cannot be used.
        NothingToDo: it is there already.
        VerdictNegative: its outputs on the board are not this machine's; what stood there still stands.
        DeviceFault: as the session; what stood there still stands.
    """
    subject = deliverable.find(artifact)
    with _board(device, inventory_file, wait_s, listener) as (board, entry, kind), Store(home()) as store:
        log = store.log("deploy")
        there = _look(board, to)
        if there.sha256 == subject.sha256:
            raise NothingToDo(f"{device}: {there.path} is this artifact already ({there.current})")
        model = board.deliver(subject.path, what="the model", on_progress=listener.on_progress)
        checked = _checked(board, entry, kind, subject, model, log, listener)
        version = _version(there.current, subject.sha256)
        manifest = subject.manifest.read_bytes() if subject.manifest else _bare_manifest(subject)
        said = board.deliver(manifest, what="the manifest")
        _place(board, there, version, {ARTIFACT: model, MANIFEST: said}, subject.sha256)
        _switch(board, there.path, version)
        _forget(board, there.path, keep=(version, there.current))
    return Deployed(device, there.path, version, subject.sha256, there.current, checked)


def rollback(
    device: str, to: str, listener: Listener, *, inventory_file: Path | None = None, wait_s: int = 0
) -> Deployed:
    """Put the version before the present one back.

    Raises:
        NothingToDo: there is none.
        VerdictNegative, DeviceFault: as `deploy`.
    """
    with _board(device, inventory_file, wait_s, listener) as (board, entry, kind), Store(home()) as store:
        there = _look(board, to)
        if there.current is None:
            raise BadInput(f"{device}: {there.path}: nothing was deployed there", hint="edgeship deploy puts one there")
        if there.previous is None:
            raise NothingToDo(f"{device}: {there.path}: {there.current} has no version before it")
        model = f"{there.path}.versions/{there.previous}/{ARTIFACT}"
        with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
            subject = _fetched(board, model, Path(folder), store)
            if not subject.sha256.startswith(there.previous.partition("-")[2]):
                raise DeviceFault(
                    f"{device}: {model} is damaged: its sha256 is {subject.sha256}",
                    fault="failed",
                    hint="what stands there still stands; deploy the older artifact again",
                )
            checked = _checked(board, entry, kind, subject, model, store.log("deploy"), listener)
        _switch(board, there.path, there.previous)
    return Deployed(device, there.path, there.previous, subject.sha256, there.current, checked)


def _fetched(board: Session, model: str, folder: Path, store: Store) -> Deliverable:
    """Return a deployed model copied to this machine; beside a compiled one goes the file it was made from, out of the store.

    Raises:
        BadInput: that file is not in the store any more.
    """
    copy = folder / ARTIFACT
    copy.write_bytes(board.fetch(model))
    if compiled.is_compiled(flatbuffer.read(copy)):
        copy = copy.rename(folder / COMPILED)
        (folder / MANIFEST).write_bytes(board.fetch(f"{model.rpartition('/')[0]}/{MANIFEST}"))
        sha = deliverable.uncompiled_sha(folder)
        if sha is None or not store.intact(sha):
            raise BadInput(
                f"{board.name}: {model} is compiled for the Edge TPU, and the file it was compiled from is not in the store",
                hint="build that model again, and deploy it",
            )
        shutil.copyfile(store.path(sha), folder / ARTIFACT)
    return deliverable.find(str(copy))


@contextmanager
def _board(
    name: str, inventory_file: Path | None, wait_s: int, listener: Listener
) -> Iterator[tuple[Session, Device, Target]]:
    entry = inventory.find(name, inventory.place(inventory_file))
    kind = target.read(entry.target)
    with attempt.leased(entry, kind, wait_s=wait_s, on_progress=listener.on_progress) as (board, _):
        yield board, entry, kind


def _checked(
    board: Session, entry: Device, kind: Target, subject: Deliverable, model: str, log: Path, listener: Listener
) -> Golden:
    """Run the golden examples there and here; refuse to go on when they differ."""
    chosen = attempt.runtime_of(entry, kind)
    runtime = RUNTIMES[chosen.name]
    ready = runtime.ready(board, entry, chosen, home=home(), log=log, on_progress=listener.on_progress)
    attempt.refuse_wrong(subject, kind, chosen.name, ready, board)
    feed = benchmarking.feed_of(subject, benchmarking.GOLDEN_EXAMPLES)
    expected = host.outputs(subject.runnable, feed, log=log)
    trial = Trial(model, _ONCE, feed, subject.outputs, profile=False, memory=False)
    measured = runtime.measure(board, ready, trial, on_progress=listener.on_progress)
    checked = attempt.golden_check(
        expected, measured.outputs, subject, runtime=measured.runtime.name, feed=feed, log=log
    )
    if not checked.compared:
        raise DeviceFault(
            f"{board.name}: the golden check could not be made: {checked.why}",
            fault="missing",
            hint="a newer benchmark_model has --output_filepath",
        )
    if not checked.passed:
        raise VerdictNegative(
            f"{board.name}: the golden check failed: {checked.why or f'outputs differ by {checked.max_abs_error:.3g}'}",
            hint="what stood there still stands; edgeship bench shows the difference",
        )
    return checked


def _look(board: Session, to: str) -> _There:
    """Return what stands at the path, and sweep what a broken deploy left beside it."""
    if not to.strip() or to.rstrip("/") in ("", ".", ".."):
        raise BadInput(f"--to {to!r}: expected a path on the board, such as /opt/app/model")
    script = f"""cd "$HOME" 2>/dev/null || cd /
path={quote(to.rstrip("/"))}
case $path in /*) ;; *) path=$PWD/$path;; esac
echo "path=$path"
rm -rf "$path.versions"/.new-*
if [ -L "$path" ]; then
    link=$(readlink "$path"); name=${{link##*/}}
    [ "$link" = "${{path##*/}}.versions/$name" ] || {{ echo "taken=a link to $link"; exit 0; }}
    [ -d "$path.versions/$name" ] && echo "current=$name"
    before=$(cat "$path.versions/$name/previous" 2>/dev/null)
    [ -n "$before" ] && [ -f "$path.versions/$before/{ARTIFACT}" ] && echo "previous=$before"
    set -- $(sha256sum "$path.versions/$name/{ARTIFACT}"); echo "sha256=$1"
elif [ -e "$path" ]; then
    echo "taken=there already, and edgeship did not make it"
fi
exit 0"""
    done = board.run(script, timeout_s=_TIMEOUT_S)
    said = dict(line.split("=", 1) for line in done.text.splitlines() if "=" in line)
    if done.exit_code != 0:
        raise DeviceFault(
            f"{board.name}: {said.get('path', to)}: cannot be written there: {done.complaint}",
            fault="failed",
            hint="name a folder that the board's user may write",
        )
    if "taken" in said:
        raise BadInput(
            f"{board.name}: {said['path']}: {said['taken']}", hint="choose another path with --to, or move it"
        )
    return _There(said["path"], said.get("current"), said.get("previous"), said.get("sha256"))


def _version(current: str | None, sha256: str) -> str:
    """Return the next version's name: a number that counts up, and the content's address."""
    number = int(current.partition("-")[0]) if current and current.partition("-")[0].isdecimal() else 0
    return f"{number + 1:04d}-{sha256[:12]}"


def _place(board: Session, there: _There, version: str, files: dict[str, str], sha256: str) -> None:
    """Write the version's folder beside the others, whole and flushed to the disk."""
    new, made = f"{there.path}.versions/.new-{version}", f"{there.path}.versions/{version}"
    copies = "\n".join(f"cp {quote(source)} {quote(new)}/{name} || exit 28" for name, source in files.items())
    board.checked(
        f"""echo {quote(new)} >> leftovers
mkdir -p {quote(there.path)}.versions || exit 73
rm -rf {quote(made)}
mkdir {quote(new)} || exit 73
{copies}
echo {quote(there.current or "")} > {quote(new)}/previous || exit 28
case $(sha256sum < {quote(new)}/{ARTIFACT}) in {sha256}*) ;; *) echo "arrived damaged" >&2; exit 74;; esac
chmod -R a+rX {quote(new)}; sync
mv {quote(new)} {quote(made)} && sync""",
        timeout_s=_TIMEOUT_S,
    )


def _switch(board: Session, path: str, version: str) -> None:
    """Have the path name this version: a rename, which the file system does whole or not at all.

    toybox's `mv -T` refuses a link to a folder, but its `ln -sfn` makes a new link beside and renames it, as is wanted;
    busybox's removes the old one first, so `mv` is tried before it.
    """
    fresh = f"{path}.versions/.new-link"
    board.checked(
        f"""echo {quote(fresh)} >> leftovers
rm -f {quote(fresh)}
link={quote(path.rpartition("/")[2])}.versions/{version}
ln -s "$link" {quote(fresh)} || exit 73
mv -fT {quote(fresh)} {quote(path)} 2>/dev/null || {{ rm -f {quote(fresh)}; ln -sfn "$link" {quote(path)}; }} || exit 73
[ "$(readlink {quote(path)})" = "$link" ] && sync""",
        timeout_s=_TIMEOUT_S,
    )


def _forget(board: Session, path: str, *, keep: tuple[str | None, ...]) -> None:
    """Remove the versions beyond those in effect and before."""
    kept = " ".join(quote(name) for name in keep if name)
    board.checked(
        f"""cd {quote(path)}.versions || exit 0
for name in [0-9][0-9][0-9][0-9]-????????????; do
    for kept in {kept}; do [ "$name" = "$kept" ] && continue 2; done
    rm -rf "./$name"
done""",
        timeout_s=_TIMEOUT_S,
    )


def _bare_manifest(subject: Deliverable) -> bytes:
    """Return the little that is known of a file that edgeship did not build."""
    return json.dumps({"artifact": ARTIFACT, "sha256": subject.sha256}, indent=2).encode() + b"\n"
