"""The network: backbone, feature pyramid, region proposals, box head and embedding head, and their checkpoints."""

from qdtrack_ros.models.config import ModelConfig, ProposalConfig
from qdtrack_ros.models.qdtrack import QDTrack, RawDetections

__all__ = ["ModelConfig", "ProposalConfig", "QDTrack", "RawDetections"]
