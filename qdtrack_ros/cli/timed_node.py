"""The node with an engine that finds nothing and takes a given time for it; `qdtrack benchmark node` measures it.

    python -m qdtrack_ros.cli.timed_node MILLISECONDS --ros-args ...

0 milliseconds stand for the engine that the parameters name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qdtrack_ros.inference.types import Engine
from qdtrack_ros.node.main import main


def _run_node(words: Sequence[str]) -> int:
    milliseconds = float(words[0])
    if not milliseconds:
        return main(words[1:])

    def timed_engine(preset: object, weights: str | None, device: str, engine: str, precision: str) -> Engine:
        from qdtrack_ros.inference.engine import NoopEngine  # loads PyTorch, which a node does when it is configured

        return NoopEngine(1, milliseconds / 1e3)

    return main(words[1:], engine_factory=timed_engine)


if __name__ == "__main__":
    sys.exit(_run_node(sys.argv[1:]))
