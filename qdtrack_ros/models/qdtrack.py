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
from qdtrack_ros.models.rpn import RPN
from qdtrack_ros.ops.boxes import decode_deltas
from qdtrack_ros.ops.nms import multiclass_nms
from qdtrack_ros.ops.roi import multilevel_roi_align

ROI_SIZE = 7


class RawDetections(NamedTuple):
    """Detections of one image on the model's device, by falling score.

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
        self.backbone = build_backbone(config.backbone)
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
        boxes = [p.boxes for p in proposals]
        logits, deltas = self.box_head(self.pool(features, boxes))
        counts = [len(b) for b in boxes]
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for box, logit, delta, size, scale in zip(
            boxes, logits.split(counts), deltas.split(counts), image_sizes, scale_factors, strict=True
        ):
            kept.append(self._select(box, logit.float(), delta.float(), size, scale))
        resized = [
            boxes * boxes.new_tensor([*scale, *scale]) for (boxes, _, _), scale in zip(kept, scale_factors, strict=True)
        ]
        embeddings = self.embedding_head(self.pool(features, resized)).float()
        return [
            RawDetections(boxes, scores, labels, embedding)
            for (boxes, scores, labels), embedding in zip(
                kept, embeddings.split([len(boxes) for boxes, _, _ in kept]), strict=True
            )
        ]

    def _select(
        self, proposals: Tensor, logits: Tensor, deltas: Tensor, size: tuple[int, int], scale: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final boxes of one image; scaled to source pixels before NMS, as the reference does."""
        config = self.config
        boxes = decode_deltas(proposals, deltas, BOX_DELTA_STDS, max_shape=size if config.clip_boxes else None)
        boxes = boxes / boxes.new_tensor([*scale, *scale] * (boxes.shape[1] // 4))
        result = multiclass_nms(
            boxes, logits.softmax(dim=-1), config.score_threshold, config.nms_iou, config.max_detections
        )
        return result.boxes, result.scores, result.labels
