"""Region proposal network (Faster R-CNN, section 3.1) with the anchor and selection rules of mmdet 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qdtrack_ros.models.config import ProposalConfig
from qdtrack_ros.ops.anchors import base_anchors, grid_anchors
from qdtrack_ros.ops.boxes import decode_deltas
from qdtrack_ros.ops.nms import per_level_nms


class RPNOutput(NamedTuple):
    """Per pyramid level: objectness logits [B, A, H, W] and deltas [B, 4A, H, W]."""

    logits: list[Tensor]
    deltas: list[Tensor]


class Proposals(NamedTuple):
    """Proposals of one image: boxes [P, 4] and objectness scores [P], by falling score."""

    boxes: Tensor
    scores: Tensor


class RPN(nn.Module):
    """Shared 3x3 convolution, then objectness and deltas for every anchor.

    Args:
        channels: channels of the pyramid.
        strides: stride of each level.
        scales: anchor scales in units of the stride.
        ratios: anchor heights / widths.
    """

    def __init__(self, channels: int, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self._base_anchors = [base_anchors(stride, scales, ratios) for stride in strides]
        num_anchors = len(scales) * len(ratios)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * num_anchors, 1)
        for module in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> RPNOutput:
        """Logits and deltas for every level."""
        hidden = [torch.relu(self.conv(feature)) for feature in features]
        return RPNOutput([self.objectness(h) for h in hidden], [self.deltas(h) for h in hidden])

    def anchors(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors [H*W*A, 4] of every level, in pixels of the network's input."""
        return [
            grid_anchors(base.to(feature.device), (feature.shape[-2], feature.shape[-1]), stride)
            for base, feature, stride in zip(self._base_anchors, features, self.strides, strict=True)
        ]

    @torch.no_grad()
    def propose(
        self,
        output: RPNOutput,
        anchors: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        config: ProposalConfig,
        clip: bool = True,
    ) -> list[Proposals]:
        """Pick proposals for every image.

        Args:
            output: logits and deltas of the batch.
            anchors: anchors of every level.
            image_sizes: (height, width) of each resized image, padding excluded: proposals are clipped to it.
            config: how many are kept.
            clip: whether to clip at all.
        """
        return [
            self._propose_one(
                [logits[i].float() for logits in output.logits],
                [deltas[i].float() for deltas in output.deltas],
                anchors,
                size if clip else None,
                config,
            )
            for i, size in enumerate(image_sizes)
        ]

    @staticmethod
    def _propose_one(
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        max_shape: tuple[int, int] | None,
        config: ProposalConfig,
    ) -> Proposals:
        level_boxes, level_scores, level_ids = [], [], []
        for level, (level_logits, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            scores = level_logits.permute(1, 2, 0).reshape(-1).sigmoid()
            offsets = level_deltas.permute(1, 2, 0).reshape(-1, 4)
            # A stable sort, as the reference has it: equal scores keep the order of their anchors.
            ranked, order = scores.sort(descending=True, stable=True)
            order = order[: config.per_level]
            boxes = decode_deltas(level_anchors[order], offsets[order], max_shape=max_shape)
            level_boxes.append(boxes)
            level_scores.append(ranked[: config.per_level])
            level_ids.append(torch.full_like(order, level))
        boxes, scores, ids = torch.cat(level_boxes), torch.cat(level_scores), torch.cat(level_ids)
        sizes = boxes[:, 2:] - boxes[:, :2]
        valid = (sizes > config.min_size).all(dim=1)
        boxes, scores, ids = boxes[valid], scores[valid], ids[valid]
        keep = per_level_nms(boxes, scores, ids, config.nms_iou)[: config.total]
        return Proposals(boxes[keep], scores[keep])
