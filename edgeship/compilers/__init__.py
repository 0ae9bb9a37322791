"""What turns a quantized TFLite file into what one chip runs: programs that the user has installed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgeship.compilation import Compilation, CompileOrder, Program
from edgeship.compilers import edgetpu


class CompilerModule(Protocol):
    """A chip's compiler, satisfied by a module.

    To add one: 1. write `compilers/<kind>.py` with what stands below, `<kind>` as in a target's `accelerator.kind`;
    2. add its line to `COMPILERS`; 3. where the program cannot be shipped, write a stand-in in `edgeship/standin`;
    4. `tests/contract/test_compilers.py` asks both the same questions.
    """

    NAME: str
    INSTALL: str

    def find(self) -> Program | None:
        """Return the program, None where it is not installed.

        Raises:
            MissingTool: the user's setting names one that is not there, or that does not answer.
        """

    def compile_models(self, order: CompileOrder, program: Program, *, folder: Path, log: Path) -> Compilation:
        """Compile in a scratch folder of its own, and leave there the files that the result names.

        Raises:
            StageFailed: it refused a model, hung, crashed, said nothing, or wrote no file of its kind.
        """

    def timeout_s(self) -> float:
        """Return the seconds that it may take for one piece, by the user's setting or as usual.

        Raises:
            BadInput: the setting is no number of seconds.
        """


COMPILERS: dict[str, CompilerModule] = {
    "edgetpu": edgetpu,
}
