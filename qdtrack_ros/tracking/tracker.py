"""Quasi-dense association: the paper's tracker, id for id as the reference computes it."""

from __future__ import annotations

import numpy as np

from qdtrack_ros.tracking.association import (
    assign_greedily,
    heights_apart,
    overlaps_earlier,
    pairwise_iou,
    similarity,
)
from qdtrack_ros.tracking.base import MemoryTracker
from qdtrack_ros.tracking.config import AssociationConfig
from qdtrack_ros.tracking.types import BoolArray, Decision, FloatArray, FrameDetections, IntArray


class QuasiDenseTracker(MemoryTracker):
    """Tracks objects by nearest neighbours in embedding space (paper section 3.3).

    Per frame: sort by score, remove duplicates, compare with tracks and backdrops by bi-softmax, match greedily, start
    tracks from the confident rest, keep what is left as backdrops for the next frame.

    Args:
        config: settings; the defaults are those of BDD100K.
    """

    kind = AssociationConfig.kind

    config: AssociationConfig

    def __init__(self, config: AssociationConfig | None = None) -> None:
        super().__init__()
        self.config = AssociationConfig() if config is None else config

    @property
    def _backdrop_frames(self) -> int:
        return self.config.backdrop_frames

    def _decide(self, detections: FrameDetections, frame_index: int) -> Decision:
        config = self.config
        order = np.argsort(-detections.scores, kind="stable")
        scores = detections.scores[order]
        iou = pairwise_iou(detections.boxes[order])
        low = scores < np.float32(config.object_score)
        limit = np.where(low, np.float32(config.backdrop_nms_iou), np.float32(config.class_nms_iou))
        kept = np.flatnonzero(~overlaps_earlier(iou, limit))
        indices, scores = order[kept], scores[kept]

        plausible = self._plausible(detections.boxes[indices], frame_index)
        rows, match_scores, suppressed = self._match(
            scores, detections.labels[indices], detections.embeddings[indices], plausible
        )
        unmatched = (rows < 0) & ~suppressed
        starts = unmatched & (scores > np.float32(config.init_score))
        leftover = np.flatnonzero(unmatched & ~starts)
        # Compared with all better boxes that were kept, tracked ones included.
        overlap = iou[kept[leftover]][:, kept] > np.float32(config.backdrop_nms_iou)
        overlap &= np.arange(len(kept)) < leftover[:, None]
        return Decision(indices, scores, rows, match_scores, suppressed, starts, leftover[~overlap.any(axis=1)])

    def _plausible(self, boxes: FloatArray, frame_index: int) -> BoolArray | None:
        """Which boxes [N, 4] may be which memory entries by distance, bool [N, M]; None without a spatial gate."""
        memory = self._memory
        if not self.config.spatial_gate or not memory.count:
            return None
        plausible = np.ones((len(boxes), len(memory.labels)), np.bool_)
        frames = np.maximum(frame_index - memory.records["last_frame"], 1)
        reach = np.float32(self.config.spatial_gate) * frames.astype(np.float32)
        plausible[:, : memory.count] = heights_apart(boxes, memory.records["box"][:, :4]) <= reach
        return plausible

    def _match(
        self, scores: FloatArray, labels: IntArray, embeddings: FloatArray, plausible: BoolArray | None
    ) -> tuple[IntArray, FloatArray, BoolArray]:
        """Memory row (or -1), similarity (or NaN) and the suppressed mark of each surviving box, by falling score."""
        count, tracks = len(scores), self._memory.count
        suppressed = np.zeros(count, np.bool_)
        if count == 0 or tracks == 0:
            return np.full(count, -1, np.int64), np.full(count, np.nan, np.float32), suppressed
        config = self.config
        similar = similarity(embeddings, self._memory.embeddings, config.metric, plausible)
        if not config.match_across_classes:
            # After the softmax: entries of other classes take their share of it, as in the reference.
            similar *= labels[:, None] == self._memory.labels
        confident = (scores > np.float32(config.object_score)).tolist()
        suppress_above = float(np.float32(config.nms_confidence))

        def accept(row: int, column: int, score: float) -> bool:
            if column >= tracks:  # a backdrop keeps its column, and the box may still start a track
                return False
            if not confident[row]:
                suppressed[row] = score > suppress_above
                return False
            return True

        rows, match_scores = assign_greedily(similar, config.match_score, accept)
        return rows, match_scores, suppressed
