"""What runs a model on a board, and brings back what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edgeship import target
from edgeship.device import Device
from edgeship.measurement import Measured, Trial
from edgeship.progress import OnProgress
from edgeship.runtimes import benchmark_model, litert
from edgeship.session import Session


class RuntimeModule(Protocol):
    """A way to run models on a board, satisfied by a module.

    To add one: 1. write `runtimes/<name>.py` with the three names below; 2. add its line to `RUNTIMES`, under the name
    that target files use; 3. give `tests/contract/test_runtimes.py` a board that has it.
    """

    TELLS_CONDITIONS: (
        bool  # clock, temperature and load around the run; where it does not, the board is watched beside it
    )

    def ready(
        self,
        session: Session,
        device: Device,
        wanted: target.Runtime,
        *,
        home: Path,
        log: Path,
        on_progress: OnProgress,
    ) -> Any:
        """Return what `measure` needs, having seen to it that the board can run models; `.version` says of what.

        Raises:
            BadInput, MissingTool: something on this machine is not there.
            DeviceFault: `missing`, the board lacks what cannot be brought; or as the session.
        """

    def measure(self, session: Session, ready: Any, trial: Trial, *, on_progress: OnProgress) -> Measured:
        """Return what the board brought back.

        Raises:
            DeviceFault: as the session; `failed` when the model does not run there.
        """


RUNTIMES: dict[str, RuntimeModule] = {
    "ai-edge-litert": litert,
    "benchmark_model": benchmark_model,
    "tflite-runtime": litert,
}
