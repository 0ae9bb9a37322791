"""Simplifies and converts ONNX files, in onnx2tf's own environment. It imports nothing of edgeship.

Orders come as JSON lines on stdin; each is answered with one line on stdout. What libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

GIB = 1024**3


def main() -> None:
    """Carry out orders until there are none left, or whoever gives them is gone."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory(float(sys.argv[1]))
    socket.socket.connect = _refuse  # type: ignore[method-assign]  # some options fetch sample data
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    import onnx2tf.onnx2tf  # type: ignore[import-not-found, unused-ignore]  # noqa: F401  # while the first order is on its way

    for line in sys.stdin:
        order = json.loads(line)
        try:
            work = simplify if order.pop("do") == "simplify" else convert
            answer: dict[str, Any] = {"done": work(**order)}
        except MemoryError:
            answer = {"refused": "it ran out of memory"}
        except (Exception, SystemExit) as fault:  # noqa: BLE001  # a boundary between processes: whoever ordered names it
            import traceback

            traceback.print_exc()
            answer = {"refused": f"{type(fault).__name__}: {fault}"[:4000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def simplify(source: str, out: str) -> dict[str, Any]:
    """Fold what is constant and fill in shapes; the result is not run, for the whole path is checked later."""
    import onnx
    import onnxsim  # type: ignore[import-not-found, unused-ignore]

    model, _ = onnxsim.simplify(onnx.load(source, load_external_data=False), check_n=0)
    onnx.save(model, out)
    return {"nodes": len(model.graph.node)}


def convert(source: str, folder: str, inputs: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Write a float32 TFLite file and the report of which tensor became which; the source is overwritten."""
    from onnx2tf.onnx2tf import convert as converted  # type: ignore[import-not-found, unused-ignore]

    converted(
        input_onnx_file_path=source,
        output_folder_path=folder,
        output_signaturedefs=True,
        copy_onnx_input_output_names_to_tflite=True,
        keep_shape_absolutely_input_names=inputs,
        not_use_onnxsim=True,
        verbosity="error",
        **options,
    )
    stem = Path(source).stem
    report = Path(folder) / f"{stem}_tensor_correspondence_report.json"
    return {
        "file": str(Path(folder) / f"{stem}_float32.tflite"),
        "report": str(report) if report.is_file() else None,
    }


def _refuse(*arguments: Any) -> NoReturn:
    raise OSError("a converter needs no network")


def _end_with_parent(parent: int) -> None:
    """End when whoever started us is gone, even in the middle of an order."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os._exit(1)


def _limit_memory(memory_gib: float) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = int(memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
