"""Memory of an evaluation while its sequence grows: `qdtrack evaluate`'s own path on frames that cost nothing.

    OMP_NUM_THREADS=1 scripts/run.sh python scripts/soak_evaluation.py --frames 100000

People cross a small picture, and the engine knows where they are, with embeddings of full length: what is left is what
an evaluation keeps. Resident memory is printed on the way and after each of its steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from qdtrack_ros.cli.ground_truth import Job, Source
from qdtrack_ros.cli.offline import track_frames
from qdtrack_ros.cli.protocols import measure_boxes
from qdtrack_ros.data.media import LazyFrames, frame_timestamp_ns
from qdtrack_ros.data.prefetch import prefetched
from qdtrack_ros.data.types import Annotation, Frame, Image
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.evaluation.report.page import write_report
from qdtrack_ros.evaluation.results import results_head, write_results
from qdtrack_ros.evaluation.rules import MOT
from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.tracking import AssociationConfig

WIDTH, HEIGHT, RATE = 64, 48, 30.0
EMBEDDING_DIM = 128
LIFE = 300  # frames that a person is there for
STEPS = 10  # lines on the way


class Crowd:
    """So many people at a time, each for ``LIFE`` frames, in places that follow from the number of the frame."""

    def __init__(self, people: int) -> None:
        self._people = people

    def boxes(self, index: int) -> dict[int, tuple[float, float, float, float]]:
        """Box of each person by identity."""
        found = {}
        for place in range(self._people):
            born, age = divmod(index + place * LIFE // self._people, LIFE)
            x, y = (WIDTH - 8) * age / LIFE, (HEIGHT - 12) * place / self._people
            found[born * self._people + place] = (x, y, x + 8, y + 12)
        return found

    def frame(self, index: int) -> Frame:
        """A picture of nothing, and who is there."""
        rows = tuple(Annotation(box, "pedestrian", identity) for identity, box in self.boxes(index).items())
        return Frame(index, frame_timestamp_ns(index, RATE), WIDTH, HEIGHT, rows, _blank)


def _blank() -> Image:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


class KnowingEngine:
    """Finds nine of ten people, roughly where they are; each looks like itself."""

    name, model_id, embedding_dim = "knowing", "soak", EMBEDDING_DIM
    at_once: int | None = 1
    streams = 1

    def __init__(self, crowd: Crowd) -> None:
        self._crowd, self._index = crowd, 0
        self._random = np.random.default_rng(0)

    def detect(self, images: Sequence[Image]) -> EngineOutput:
        """One picture at a time, in order."""
        people = self._crowd.boxes(self._index)
        self._index += 1
        seen = self._random.random(len(people)) < 0.9
        boxes = np.array(list(people.values()), np.float32)[seen]
        looks = [10 * np.random.default_rng(identity).standard_normal(EMBEDDING_DIM) for identity in people]
        found = Detections(
            boxes + self._random.normal(0, 0.5, boxes.shape).astype(np.float32),
            np.sort(self._random.uniform(0.7, 1.0, len(boxes)).astype(np.float32))[::-1],
            np.zeros(len(boxes), np.int64),
            np.array(looks, np.float32)[seen],
        )
        return EngineOutput([found], 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


def resident_mib() -> float:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def told(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    """The same frames; says on the way how much memory is in use."""
    for index, frame in enumerate(frames):
        if index % max(count // STEPS, 1) == 0:
            tell(f"{index} frames")
        yield frame


def tell(what: str) -> None:
    """A line of the table."""
    print(f"{what:24}{resident_mib():8.0f} MiB", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--report", action="store_true", help="make the report, too")
    arguments = parser.parse_args()
    count, crowd = arguments.frames, Crowd(arguments.people)
    tell("start")
    sequence = FrameSequence("soak", LazyFrames(count, crowd.frame), RATE, True)
    annotations = [frame.annotations for frame in sequence.frames]
    tell("ground truth")
    job = Job(Source("soak"), sequence, count, range(count), annotations, "mot", MOT)
    frames = told(prefetched(sequence.frames), count)
    recording = track_frames(KnowingEngine(crowd), AssociationConfig(), frames, count, [0])
    tell("tracked")
    figures = measure_boxes([job], [recording], ["pedestrian"])
    tell("measured")
    with tempfile.TemporaryDirectory() as folder:
        evaluated = [scene.evaluated for scene in figures.scenes]
        head = results_head(evaluated, {})
        write_results(Path(folder) / "results.json", head, evaluated)
        size = (Path(folder) / "results.json").stat().st_size / 2**20
        tell(f"results.json, {size:.0f} MiB")
        if arguments.report:
            write_report(Path(folder) / "report.html", figures.scenes, head)
            tell("report.html")
    print(figures.table)


if __name__ == "__main__":
    main()
