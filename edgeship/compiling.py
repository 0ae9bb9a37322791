"""Files compiled for a chip outside of a build: what `edgeship edgetpu` asks of the compiler where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeship import store as stores
from edgeship.compilation import Compilation, CompiledFiles, CompileOrder, Source
from edgeship.compilers import COMPILERS
from edgeship.errors import BadInput
from edgeship.progress import OnProgress, Progress, silent
from edgeship.store import Store, home


def compile_files(
    paths: Sequence[Path],
    kind: str,
    *,
    min_runtime: int | None = None,
    segments: int = 1,
    several_subgraphs: bool = False,
    out: Path | None = None,
    on_progress: OnProgress = silent,
) -> CompiledFiles | None:
    """Compile 8-bit files together, in the order given, or None where the compiler is not installed.

    Args:
        kind: of the chip, as in a target's `accelerator.kind`.
        min_runtime: the oldest runtime that has to take the result, by its own number.
        segments: into how many pieces each file is cut.
        out: the folder that gets the compiled files; each is there whole or not at all.

    Raises:
        MissingTool: the compiler that a setting names is not there.
        StageFailed: it gave no file; nothing is left.
        BadInput: the folder cannot be written.
    """
    compiler = COMPILERS[kind]
    program = compiler.find()
    if program is None:
        return None
    sources = tuple(Source(path, path.name) for path in paths)
    order = CompileOrder(sources, segments, min_runtime, compiler.timeout_s(), several_subgraphs)
    with Store(home()) as store, store.scratch() as scratch:
        on_progress(Progress("compile", 0, 0, f"{program.name} {program.version}"))
        made = compiler.compile_models(order, program, folder=scratch, log=store.log("compile"))
        return CompiledFiles(made, _left(made, scratch, out) if out is not None else ())


def _left(made: Compilation, scratch: Path, out: Path) -> tuple[Path, ...]:
    """Write the compiled files into the user's folder and return them."""
    written = []
    try:
        with stores.no_space_named(out):
            out.mkdir(parents=True, exist_ok=True)
            for part in made.parts:
                stores.write_whole(out / part.file, (scratch / part.file).read_bytes())
                written.append(out / part.file)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}", hint="choose another folder with --out") from None
    return tuple(written)
