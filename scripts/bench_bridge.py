"""Prints how far stock Keras 3 models are from their tf_keras twins, as a share of the range of their logits.

Weights and batch-norm statistics are seeded so that signals do not vanish. Run: python -m scripts.bench_bridge
"""

from __future__ import annotations

import time

from edgeship.progress import silent
from tests.bridge_models import APPLICATIONS, bridge_application


def main() -> None:
    """Bridge every model in turn."""
    print(f"{'model':<18} {'max abs error':>14} {'of the range':>13} {'seconds':>8}")
    for name in APPLICATIONS:
        began = time.monotonic()
        absolute, relative, _ = bridge_application(silent, name)
        print(f"{name:<18} {absolute:>14.3g} {relative:>13.3g} {time.monotonic() - began:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
