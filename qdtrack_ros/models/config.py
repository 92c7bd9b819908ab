"""The shape of the network, as one frozen value that presets fill in and checkpoints are checked against."""

from __future__ import annotations

from dataclasses import dataclass, field

BACKBONES = ("resnet50", "resnet101", "efficientnet_lite0")
EMBEDDING_SOURCES = ("pyramid", "trunk")
BACKBONE_STYLES = ("pytorch", "caffe")


@dataclass(frozen=True)
class ProposalConfig:
    """How region proposals are picked from the anchors (Faster R-CNN, section 3.1; mmdet 2.x ``RPNHead``).

    Args:
        per_level: anchors kept per pyramid level before NMS, by objectness. Raising it costs time and helps crowds of
            tiny objects.
        nms_iou: NMS threshold within a level.
        total: proposals kept in all, by objectness. The box head's cost is proportional to it.
        min_size: proposals whose width or height is not above this (pixels) are dropped.
    """

    per_level: int = 1000
    nms_iou: float = 0.7
    total: int = 1000
    min_size: float = 0.0

    def __post_init__(self) -> None:
        if self.per_level < 1 or self.total < 1:
            raise ValueError(f"per_level is {self.per_level} and total {self.total}; expected at least 1")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou}; expected a number in [0, 1]")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one QDTrack network.

    The defaults are the R50-FPN of the paper's BDD100K configuration (section 4.2; official ``faster_rcnn_r50_fpn``).

    Args:
        num_classes: foreground classes; background is the last column of the classifier.
        backbone: ``resnet50``, ``resnet101`` or ``efficientnet_lite0``.
        backbone_style: where a ResNet's blocks have their stride: ``pytorch`` in the 3x3 convolution (torchvision),
            ``caffe`` in the 1x1 before it (Detectron, and the MOT17 configuration). Weights of one are useless in the
            other, and their shapes do not tell.
        fpn_channels: channels of every pyramid level and of the RPN's hidden convolution.
        fpn_first_stride: stride of the finest backbone output that the pyramid is built on, 4 or 8.
        fpn_levels: pyramid levels; those beyond the backbone's are made by stride-2 max-pooling.
        anchor_scales: anchor side at aspect ratio 1, in units of the level's stride.
        anchor_ratios: height / width of the anchors.
        proposals: proposal selection at test time.
        roi_finest_size: boxes with sqrt(area) below twice this many pixels are pooled from the finest level (FPN,
            equation 1).
        box_fc_channels: width of the box head's two fully connected layers.
        class_agnostic_boxes: one set of box deltas for all classes.
        score_threshold: detections below it are dropped. Raising it loses faint objects and saves time.
        nms_iou: per-class NMS threshold of the final boxes.
        max_detections: detections kept per image.
        clip_boxes: clip boxes to the image (the MOT17 configuration does not).
        embedding_from: ``pyramid``, the paper's: the embedding head pools the pyramid. ``trunk``: it pools the
            backbone's stride-2 map and goes on with blocks of its own, like the backbone's (EfficientNet-Lite0 only).
        embedding_roi_size: (height, width) of the pooled features; with ``trunk`` multiples of 8.
        embedding_convs: 3x3 convolutions of the embedding head, each followed by GroupNorm and ReLU; ``pyramid`` only.
        embedding_conv_channels: their channels; with ``trunk`` those of the 1x1 convolution before the embedding.
        embedding_fc_channels: width of the fully connected layer before the embedding; 0 leaves it out. ``pyramid``
            only.
        embedding_dim: D, length of the embedding.
    """

    num_classes: int = 8
    backbone: str = "resnet50"
    backbone_style: str = "pytorch"
    fpn_channels: int = 256
    fpn_first_stride: int = 4
    fpn_levels: int = 5
    anchor_scales: tuple[float, ...] = (8.0,)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    roi_finest_size: float = 56.0
    box_fc_channels: int = 1024
    class_agnostic_boxes: bool = False
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    clip_boxes: bool = True
    embedding_from: str = "pyramid"
    embedding_roi_size: tuple[int, int] = (7, 7)
    embedding_convs: int = 4
    embedding_conv_channels: int = 256
    embedding_fc_channels: int = 1024
    embedding_dim: int = 256

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}; expected one of {', '.join(BACKBONES)}")
        if self.backbone_style not in BACKBONE_STYLES:
            raise ValueError(f"backbone_style is {self.backbone_style!r}; expected one of {', '.join(BACKBONE_STYLES)}")
        if self.backbone_style == "caffe" and not self.backbone.startswith("resnet"):
            raise ValueError(f"backbone_style caffe is for ResNets; {self.backbone} has one form only")
        least_one = ("num_classes", "fpn_channels", "box_fc_channels", "max_detections", "embedding_dim")
        for name in least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("score_threshold", "nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number in [0, 1]")
        if self.fpn_first_stride not in (4, 8):
            raise ValueError(f"fpn_first_stride is {self.fpn_first_stride}; expected 4 or 8")
        self._check_embedding()

    def _check_embedding(self) -> None:
        if self.embedding_from not in EMBEDDING_SOURCES:
            known = ", ".join(EMBEDDING_SOURCES)
            raise ValueError(f"embedding_from is {self.embedding_from!r}; expected one of {known}")
        trunk = self.embedding_from == "trunk"
        if trunk and self.backbone != "efficientnet_lite0":
            raise ValueError(f"embedding_from is 'trunk', which backbone {self.backbone} has not; use 'pyramid'")
        if (trunk or self.embedding_convs) and (self.embedding_conv_channels < 32 or self.embedding_conv_channels % 32):
            raise ValueError(f"embedding_conv_channels is {self.embedding_conv_channels}; expected a multiple of 32")
        step = 8 if trunk else 1
        if any(side < step or side % step for side in self.embedding_roi_size):
            raise ValueError(f"embedding_roi_size is {self.embedding_roi_size}; expected multiples of {step}")
