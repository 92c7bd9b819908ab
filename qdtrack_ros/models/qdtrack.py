"""QDTrack in its reference form: eager, any image size, exact torchvision operators. Training uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qdtrack_ros.models.backbones import build_backbone
from qdtrack_ros.models.box_head import BOX_DELTA_STDS, BoxHead
from qdtrack_ros.models.config import ModelConfig
from qdtrack_ros.models.embedding_head import EmbeddingHead
from qdtrack_ros.models.fpn import FPN
from qdtrack_ros.models.rpn import RPN, Proposals, RPNOutput
from qdtrack_ros.ops.boxes import decode_deltas
from qdtrack_ros.ops.nms import NMSResult, multiclass_nms
from qdtrack_ros.ops.roi import multilevel_roi_align

ROI_SIZE = 7


class RawDetections(NamedTuple):
    """Detections of one image on the model's device, by falling score.

    Where the network gave NaN or infinity there is one detection of NaN: nothing at all would pass for an empty street.

    Attributes:
        boxes: float32 [N, 4], source pixels.
        scores: float32 [N].
        labels: int64 [N].
        embeddings: float32 [N, D].
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    embeddings: Tensor


class QDTrack(nn.Module):
    """Two-stage detector with a quasi-dense embedding head.

    Args:
        config: architecture; weights are random until a checkpoint is loaded.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.backbone_style)
        strides = list(self.backbone.strides)
        self.num_roi_levels = len(strides)
        strides += [strides[-1] * 2 ** (i + 1) for i in range(config.fpn_levels - len(strides))]
        self.neck = FPN(self.backbone.channels, config.fpn_channels, config.fpn_levels)
        self.rpn = RPN(config.fpn_channels, strides, config.anchor_scales, config.anchor_ratios)
        self.box_head = BoxHead(
            config.fpn_channels, ROI_SIZE, config.box_fc_channels, config.num_classes, config.class_agnostic_boxes
        )
        self.embedding_head = EmbeddingHead(
            config.fpn_channels,
            ROI_SIZE,
            config.embedding_convs,
            config.embedding_conv_channels,
            config.embedding_fc_channels,
            config.embedding_dim,
        )

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W], normalised and padded to a multiple of 32, to the pyramid, finest level first."""
        return self.neck(self.backbone(images))

    def pool(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """RoIAlign of the boxes [R_i, 4] of every image, each from the level of its size: [sum R_i, channels, 7, 7]."""
        rois = torch.cat([torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)])
        return multilevel_roi_align(
            list(features[: self.num_roi_levels]),
            rois,
            self.backbone.strides,
            output_size=ROI_SIZE,
            finest_size=self.config.roi_finest_size,
        )

    def forward(
        self,
        images: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        scale_factors: Sequence[tuple[float, float]],
    ) -> list[RawDetections]:
        """Detect and embed.

        Args:
            images: [B, 3, H, W], normalised and padded.
            image_sizes: (height, width) of each resized image without padding.
            scale_factors: (x, y) factors from source to resized pixels of each image.

        Returns:
            Detections of each image in source pixels.
        """
        features = self.extract_features(images)
        rpn_output = self.rpn(features)
        proposals = self.rpn.propose(
            rpn_output, self.rpn.anchors(features), image_sizes, self.config.proposals, self.config.clip_boxes
        )
        counts = [len(p.boxes) for p in proposals]
        logits, deltas = self.box_head(self.pool(features, [p.boxes for p in proposals]))
        logits, deltas = logits.float().split(counts), deltas.float().split(counts)
        selected = [
            self._select(*image) for image in zip(proposals, logits, deltas, image_sizes, scale_factors, strict=True)
        ]
        resized = [s.boxes * _four(scale, s.boxes) for s, scale in zip(selected, scale_factors, strict=True)]
        embeddings = self.embedding_head(self.pool(features, resized)).float()
        found = [
            RawDetections(s.boxes, s.scores, s.labels, embedding)
            for s, embedding in zip(selected, embeddings.split([len(s.boxes) for s in selected]), strict=True)
        ]
        finite = _finite_images(rpn_output, logits, deltas)
        return [one if sound else _not_finite(one) for one, sound in zip(found, finite, strict=True)]

    def _select(
        self, proposals: Proposals, logits: Tensor, deltas: Tensor, size: tuple[int, int], scale: tuple[float, float]
    ) -> NMSResult:
        """Final boxes of one image; scaled to source pixels before NMS, as the reference does."""
        config = self.config
        boxes = decode_deltas(proposals.boxes, deltas, BOX_DELTA_STDS, max_shape=size if config.clip_boxes else None)
        boxes = boxes / _four(scale, boxes).repeat(boxes.shape[1] // 4)
        scores = logits.softmax(dim=-1).masked_fill(~boxes.isfinite().all(dim=1, keepdim=True), 0.0)
        return multiclass_nms(boxes, scores, config.score_threshold, config.nms_iou, config.max_detections)


def _four(scale: tuple[float, float], like: Tensor) -> Tensor:
    return like.new_tensor([*scale, *scale])


def _finite_images(output: RPNOutput, logits: Sequence[Tensor], deltas: Sequence[Tensor]) -> list[bool]:
    maps = [m.flatten(1).isfinite().all(dim=1) for m in (*output.logits, *output.deltas)]
    heads = [torch.stack([one.isfinite().all() for one in parts]) for parts in (logits, deltas)]
    return torch.stack(maps + heads).all(dim=0).tolist()


def _not_finite(like: RawDetections) -> RawDetections:
    boxes, scores, labels, embeddings = (
        part.new_full((1, *part.shape[1:]), torch.nan if part.is_floating_point() else 0) for part in like
    )
    return RawDetections(boxes, scores, labels, embeddings)
