"""QDTrack in its reference form: eager, any image size, exact torchvision operators. Training uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qdtrack_ros.models.backbones import build_backbone
from qdtrack_ros.models.box_head import BOX_DELTA_STDS, BoxHead
from qdtrack_ros.models.config import ModelConfig
from qdtrack_ros.models.embedding_head import EmbeddingHead, TrunkEmbeddingHead
from qdtrack_ros.models.fpn import FPN
from qdtrack_ros.models.rpn import RPN, Proposals, RPNOutput
from qdtrack_ros.ops.boxes import decode_deltas
from qdtrack_ros.ops.nms import NMSResult, multiclass_nms
from qdtrack_ros.ops.roi import multilevel_roi_align

ROI_SIZE = (7, 7)


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


class Features(NamedTuple):
    """What the backbone and the pyramid make of B images.

    Attributes:
        finest: the backbone's first output [B, C, H / s, W / s], s 4 for a ResNet and 2 for EfficientNet-Lite0.
        pyramid: maps of ``fpn_channels``, finest level first.
    """

    finest: Tensor
    pyramid: list[Tensor]


class QDTrack(nn.Module):
    """Two-stage detector with a quasi-dense embedding head.

    Args:
        config: architecture; weights are random until a checkpoint is loaded.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.backbone_style)
        self._first_level = self.backbone.strides.index(config.fpn_first_stride)
        self.roi_strides = self.backbone.strides[self._first_level :]
        channels = self.backbone.channels[self._first_level :]
        strides = [config.fpn_first_stride * 2**level for level in range(config.fpn_levels)]
        self.neck = FPN(channels, config.fpn_channels, config.fpn_levels)
        self.rpn = RPN(config.fpn_channels, strides, config.anchor_scales, config.anchor_ratios)
        self.box_head = BoxHead(
            config.fpn_channels, ROI_SIZE[0], config.box_fc_channels, config.num_classes, config.class_agnostic_boxes
        )
        self.embedding_head = build_embedding_head(config)

    def extract_features(self, images: Tensor) -> Features:
        """Features of images [B, 3, H, W], normalised and padded to a multiple of 32."""
        maps = self.backbone(images)
        return Features(maps[0], self.neck(maps[self._first_level :]))

    def pool(self, pyramid: Sequence[Tensor], boxes: Sequence[Tensor], size: tuple[int, int] = ROI_SIZE) -> Tensor:
        """RoIAlign of the boxes [R_i, 4] of each image, from the level of its size: [sum R_i, channels, *size]."""
        return multilevel_roi_align(
            list(pyramid[: len(self.roi_strides)]),
            _with_image_index(boxes),
            self.roi_strides,
            output_size=size,
            finest_size=self.config.roi_finest_size,
        )

    def embed(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Embeddings, float32 [sum R_i, D], of the boxes [R_i, 4] of every image."""
        size = self.config.embedding_roi_size
        if self.config.embedding_from == "pyramid":
            return self.embedding_head(self.pool(features.pyramid, boxes, size)).float()
        pooled = multilevel_roi_align([features.finest], _with_image_index(boxes), self.backbone.strides[:1], size)
        return self.embedding_head(pooled.contiguous(memory_format=torch.channels_last)).float()

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
        return self.detect(self.extract_features(images), image_sizes, scale_factors)

    def detect(
        self, features: Features, image_sizes: Sequence[tuple[int, int]], scale_factors: Sequence[tuple[float, float]]
    ) -> list[RawDetections]:
        """The rest of :meth:`forward`, from features on."""
        rpn_output = self.rpn(features.pyramid)
        proposals = self.rpn.propose(
            rpn_output, self.rpn.anchors(features.pyramid), image_sizes, self.config.proposals, self.config.clip_boxes
        )
        counts = [len(p.boxes) for p in proposals]
        logits, deltas = self.box_head(self.pool(features.pyramid, [p.boxes for p in proposals]))
        logits, deltas = logits.float().split(counts), deltas.float().split(counts)
        selected = [
            self._select(*image) for image in zip(proposals, logits, deltas, image_sizes, scale_factors, strict=True)
        ]
        resized = [s.boxes * _four(scale, s.boxes) for s, scale in zip(selected, scale_factors, strict=True)]
        embeddings = self.embed(features, resized)
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


def build_embedding_head(config: ModelConfig) -> EmbeddingHead | TrunkEmbeddingHead:
    """The embedding head that a configuration asks for, with random weights."""
    if config.embedding_from == "trunk":
        return TrunkEmbeddingHead(config.embedding_roi_size, config.embedding_conv_channels, config.embedding_dim)
    return EmbeddingHead(
        config.fpn_channels,
        config.embedding_roi_size,
        config.embedding_convs,
        config.embedding_conv_channels,
        config.embedding_fc_channels,
        config.embedding_dim,
    )


def _with_image_index(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes [R_i, 4] of every image as RoIs [sum R_i, 5], the image's index first."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)])


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
