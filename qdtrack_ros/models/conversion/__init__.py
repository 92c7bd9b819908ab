"""Checkpoints of other implementations, brought into our layout tensor by tensor.

One file a family of layouts: ``openmmlab`` (SysCV/qdtrack old and new, mmtracking 0.x, mmdetection 3), ``vis4d``,
``torchvision_detector`` (COCO) and ``resnet`` (ImageNet). ``convert`` brings any of them to a network; every tensor
must find its place. docs/checkpoints.md is the same for users.
"""

from qdtrack_ros.models.conversion.convert import (
    LAYOUTS,
    OWN,
    Conversion,
    Target,
    class_names,
    convert,
    foreign_name,
    opened,
    recognise_layout,
)
from qdtrack_ros.models.conversion.layout import ConversionError, FileFacts, Layout
from qdtrack_ros.models.conversion.network import network_of
from qdtrack_ros.models.conversion.openmmlab import OPENMMLAB, SYSCV_NEW, SYSCV_OLD
from qdtrack_ros.models.conversion.resnet import RESNET
from qdtrack_ros.models.conversion.torchvision_detector import TORCHVISION_DETECTOR
from qdtrack_ros.models.conversion.vis4d import VIS4D

__all__ = [
    "LAYOUTS",
    "OPENMMLAB",
    "OWN",
    "RESNET",
    "SYSCV_NEW",
    "SYSCV_OLD",
    "TORCHVISION_DETECTOR",
    "VIS4D",
    "Conversion",
    "ConversionError",
    "FileFacts",
    "Layout",
    "Target",
    "class_names",
    "convert",
    "foreign_name",
    "network_of",
    "opened",
    "recognise_layout",
]
