"""`qdtrack benchmark association`: one step of the tracker against a full memory."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.options import positive
from qdtrack_ros.cli.timing import repeated

if TYPE_CHECKING:
    import numpy as np

    from qdtrack_ros.inference.types import Detections


def add_association_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    parser.add_argument("--detections", type=positive, nargs="+", default=[100, 300], metavar="N")
    parser.add_argument("--memory", type=positive, default=223, help="entries of the memory (default: 223)")
    parser.add_argument("--dim", type=positive, default=256, help="length of an embedding (default: 256)")


def association_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a step by number of detections."""
    return [
        {
            "case": {"detections": count, "memory": arguments.memory, "dim": arguments.dim},
            "milliseconds": association_times(count, arguments.memory, arguments.dim, arguments.repeats),
        }
        for count in arguments.detections
    ]


def association_times(count: int, memory: int, dim: int, repeats: int) -> dict[str, float]:
    """Measure one step of `count` detections against `memory` tracklets, always from the same memory."""
    against = FullMemory(count, memory, dim)
    return repeated(against.step, repeats, against.restore)


class FullMemory:
    """A tracker whose memory is full, and detections for it.

    They are the tracklets seen again where there are enough of those, else also new objects.

    Args:
        count: detections.
        memory: tracklets.
        dim: length of an embedding.
    """

    def __init__(self, count: int, memory: int, dim: int) -> None:
        import numpy as np

        from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker

        rng = np.random.default_rng(0)
        config = AssociationConfig(init_score=0.7, object_score=0.3, match_score=0.5, memory_frames=10)
        objects = scattered(rng, max(count, memory), dim)
        known, seen = rows(objects, memory), rows(objects, count)
        self._tracker = QuasiDenseTracker(config)
        self._tracker.step(*known, frame_index=0)
        if len(self._tracker.tracks) != memory:
            raise AssertionError(f"the memory holds {len(self._tracker.tracks)} entries instead of {memory}")
        self._state = self._tracker.state_dict()
        embeddings = seen.embeddings + rng.normal(0, 0.1, seen.embeddings.shape).astype(np.float32)
        self._seen = seen._replace(boxes=seen.boxes + np.float32(1), embeddings=embeddings)

    def step(self, frame_index: int = 1) -> None:
        """Associate the detections; for up to ten frames the memory stays as large as it is."""
        self._tracker.step(*self._seen, frame_index=frame_index)

    def restore(self) -> None:
        """Put the memory back to what it was."""
        self._tracker.load_state_dict(self._state)


def rows(detections: Detections, count: int) -> Detections:
    """The first ones."""
    boxes, scores, labels, embeddings = detections
    return type(detections)(boxes[:count], scores[:count], labels[:count], embeddings[:count])


def scattered(rng: np.random.Generator, count: int, dim: int) -> Detections:
    """Detections that do not overlap, each with an appearance of its own."""
    import numpy as np

    from qdtrack_ros.inference.types import Detections

    columns = 40
    corners = np.stack([np.arange(count) % columns, np.arange(count) // columns], axis=1) * 50.0
    boxes = np.concatenate([corners, corners + (30.0, 45.0)], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.75, 1.0, count).astype(np.float32))[::-1].copy()
    embeddings = rng.normal(size=(count, dim)).astype(np.float32)
    return Detections(boxes, scores, np.zeros(count, np.int64), embeddings)
