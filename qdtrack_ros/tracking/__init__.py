"""Association of detections over time: needs numpy only, knows neither torch nor ROS.

A tracker is one object per camera::

    tracker = QuasiDenseTracker(AssociationConfig(init_score=0.9, object_score=0.5, memory_frames=30))
    for index, frame in enumerate(video):
        result = tracker.step(*detect(frame), frame_index=index)
        boxes, ids = boxes[result.indices], result.track_ids        # ids >= 0 are tracks
"""

from qdtrack_ros.tracking.base import MemoryTracker
from qdtrack_ros.tracking.config import AssociationConfig, TaoConfig, TrackerConfig
from qdtrack_ros.tracking.tao import TaoTracker
from qdtrack_ros.tracking.tracker import QuasiDenseTracker
from qdtrack_ros.tracking.types import SUPPRESSED, UNTRACKED, Backdrops, StepResult, Track

__all__ = [
    "SUPPRESSED",
    "UNTRACKED",
    "AssociationConfig",
    "Backdrops",
    "MemoryTracker",
    "QuasiDenseTracker",
    "StepResult",
    "TaoConfig",
    "TaoTracker",
    "Track",
    "TrackerConfig",
    "create_tracker",
]


def create_tracker(config: TrackerConfig) -> QuasiDenseTracker | TaoTracker:
    """Build the tracker that a configuration belongs to."""
    return TaoTracker(config) if isinstance(config, TaoConfig) else QuasiDenseTracker(config)
