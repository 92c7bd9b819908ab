"""Readers of annotated sequences, videos, folders and bags; all give one type, ``Sequence``."""

from qdtrack_ros.data.types import Annotation, DataError, DataFault, Frame, LabelCoverage, Sequence

__all__ = ["Annotation", "DataError", "DataFault", "Frame", "LabelCoverage", "Sequence"]
