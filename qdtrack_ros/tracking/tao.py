"""The TAO variant of association: many classes, low scores, no backdrops."""

from __future__ import annotations

import numpy as np

from qdtrack_ros.tracking.association import assign_greedily, class_bisoftmax, cosine, overlaps_earlier, pairwise_iou
from qdtrack_ros.tracking.base import MemoryTracker
from qdtrack_ros.tracking.config import TaoConfig
from qdtrack_ros.tracking.types import Decision, FloatArray, FrameDetections, IntArray


class TaoTracker(MemoryTracker):
    """Tracks objects as the reference's ``TaoTracker`` does.

    Differs from `QuasiDenseTracker`: detections keep their order; only low boxes are tested for duplicates, within
    their class; the bi-softmax runs within classes and is averaged with the cosine; scores of matched boxes are blended
    with their track's; there are no backdrops, and nothing is suppressed. Boxes with a negative label are dropped.

    Args:
        config: settings; the defaults are those of TAO.
    """

    kind = TaoConfig.kind

    config: TaoConfig

    def __init__(self, config: TaoConfig | None = None) -> None:
        super().__init__()
        self.config = TaoConfig() if config is None else config

    @property
    def _backdrop_frames(self) -> int:
        return 0

    def _decide(self, detections: FrameDetections, frame_index: int) -> Decision:
        config = self.config
        labels = detections.labels
        iou = pairwise_iou(detections.boxes)
        iou *= labels[:, None] == labels
        copies = overlaps_earlier(iou, config.distractor_iou)
        copies &= detections.scores < np.float32(config.distractor_score)
        indices = np.flatnonzero(~copies & (labels >= 0))
        scores = detections.scores[indices]
        rows, match_scores = self._match(scores, labels[indices], detections.embeddings[indices])
        starts = (rows < 0) & (scores > np.float32(config.init_score))
        return Decision(
            indices,
            self._blend(scores, rows),
            rows,
            match_scores,
            np.zeros(len(indices), np.bool_),
            starts,
            np.zeros(0, np.int64),
        )

    def _match(self, scores: FloatArray, labels: IntArray, embeddings: FloatArray) -> tuple[IntArray, FloatArray]:
        """Memory row (or -1) and similarity (or NaN) of each surviving box, in the order of the input."""
        count = len(scores)
        if count == 0 or self._memory.count == 0:
            return np.full(count, -1, np.int64), np.full(count, np.nan, np.float32)
        config = self.config
        memory = self._memory.embeddings
        same_class = labels[:, None] == self._memory.labels
        if config.metric == "cosine":
            similar = cosine(embeddings, memory)
            similar *= same_class
        else:
            similar = class_bisoftmax(embeddings @ memory.T, same_class)
            if config.with_cosine:
                angles = cosine(embeddings, memory)
                angles *= same_class
                similar += angles
                similar *= 0.5
        differences = np.abs(scores[:, None] - self._memory.records["box"][:, 4])
        close = differences < np.float32(config.score_difference)
        eligible = np.flatnonzero(~(scores < np.float32(config.object_score)))
        return assign_greedily(similar, config.match_score, lambda row, column, _: bool(close[row, column]), eligible)

    def _blend(self, scores: FloatArray, rows: IntArray) -> FloatArray:
        """Mean of a matched box's score and its track's, weighted by ``score_momentum``."""
        matched = np.flatnonzero(rows >= 0)
        weight = self.config.score_momentum
        old = self._memory.records["box"][rows[matched], 4]
        blended = scores.copy()
        blended[matched] = np.float32(weight) * scores[matched] + np.float32(1 - weight) * old
        return blended
