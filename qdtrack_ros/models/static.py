"""QDTrack in its static form: the network of :mod:`.qdtrack` with fixed shapes, for exports and CUDA graphs.

No shape and no control flow depends on data: what the reference form selects goes into a fixed number of slots with
flags, NMS takes a fixed number of steps, and one packed tensor comes out. Detections are those of the reference form
wherever ``exact`` is set; where it is not, the picture has to go through the reference form.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qdtrack_ros.models.backbones import ResNet, fold_batch_norm
from qdtrack_ros.models.box_head import BOX_DELTA_STDS
from qdtrack_ros.models.qdtrack import ROI_SIZE, Features, QDTrack
from qdtrack_ros.ops.anchors import base_anchors, grid_anchors
from qdtrack_ros.ops.boxes import decode_deltas
from qdtrack_ros.ops.fixed_roi import pool_from_atlas, pool_level_by_level
from qdtrack_ros.ops.nms import fixed_point_nms

GRAPH_VERSION = 3
"""Raised with every change of inputs, outputs or arithmetic, so that older exported files are not loaded."""
NMS_STEPS = 16
POOLINGS = ("roi_align", "atlas")
_BOX, _SCORE, _LABEL, _EMBEDDING = slice(0, 4), 4, 5, 6
_MIN_CANDIDATES, _CANDIDATES_PER_DETECTION = 1000, 10
_ATLAS_SAMPLES = 4


class Unpacked(NamedTuple):
    """One image's part of the packed tensor.

    Attributes:
        boxes: [N, 4], pixels of the network's input; N slots, those in use first, by falling score.
        scores: [N]; 0 marks a slot that is not in use.
        labels: [N], float.
        embeddings: [N, D].
        exact: whether this is what the reference form finds.
        finite: whether the network gave finite numbers only.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    embeddings: Tensor
    exact: bool
    finite: bool


class StaticQDTrack(nn.Module):
    """The static form of a network, for one input shape.

    Args:
        network: with its weights; it is copied, with BatchNorm folded into the convolutions.
        input_size: (height, width) of the input, multiples of 32.
        mean, std: of the input's channels, in the network's order.
        bgr: whether the network wants blue first, as the input has it.
        pooling: ``roi_align``, exact, for engines that know RoIAlign; ``atlas``, by bilinear sampling.
        nms_steps: see :func:`fixed_point_nms`.
        dtype: of the weights and feature maps; boxes, scores, overlaps and pooling are float32 always.
        trim: embed, and give, only as many slots as the picture with most detections needs, rounded up to a multiple of
            8: the one shape that depends on data, for engines that take it. A street has 20 people, not 100.
    """

    mean: Tensor
    inverse_std: Tensor
    anchors: Tensor

    def __init__(
        self,
        network: QDTrack,
        input_size: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        bgr: bool,
        pooling: str = "roi_align",
        nms_steps: int = NMS_STEPS,
        dtype: torch.dtype = torch.float32,
        trim: bool = False,
    ) -> None:
        super().__init__()
        if any(side < 32 or side % 32 for side in input_size):
            raise ValueError(f"input_size is {input_size}; expected (height, width), multiples of 32")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; expected one of {', '.join(POOLINGS)}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        fold_network(self.network)
        self.network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        self.config = network.config
        self.bgr = bgr
        self.input_size = input_size
        self.pooling = pooling
        self.nms_steps = nms_steps
        self.trim = trim
        order = [0, 1, 2] if bgr else [2, 1, 0]
        self.register_buffer("mean", torch.tensor(mean)[order].reshape(1, 3, 1, 1))
        self.register_buffer("inverse_std", (1 / torch.tensor(std))[order].reshape(1, 3, 1, 1))
        if not bgr:
            _reverse_input_channels(self.network)
        config = self.config
        anchors = []
        for stride in self.network.rpn.strides:
            size = (-(-input_size[0] // stride), -(-input_size[1] // stride))
            anchors.append(grid_anchors(base_anchors(stride, config.anchor_scales, config.anchor_ratios), size, stride))
        self.register_buffer("anchors", torch.cat(anchors))
        self._anchors_of_levels = [len(level) for level in anchors]
        slots = config.proposals.total * config.num_classes
        self.candidates = min(slots, max(_MIN_CANDIDATES, _CANDIDATES_PER_DETECTION * config.max_detections))
        self.slots = min(config.max_detections, self.candidates)

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Detect and embed.

        Args:
            images: uint8 [B, H, W, 3], BGR, each in the top left corner; what lies right of it and below is not read.
            sizes: float32 [B, 2], (height, width) of each.

        Returns:
            float32 [B, 1 + N, 6 + D]: a row of flags, then the detections; see :func:`unpack`. N is
            ``max_detections``, or fewer where slots are trimmed.
        """
        features = self.network.extract_features(self._normalised(images, sizes))
        boxes, valid, exact, finite = self._propose(features, sizes)
        levels = [_for_pooling(level) for level in features.pyramid[: len(self.network.roi_strides)]]
        logits, deltas = self.network.box_head(self._pool(levels, boxes, self.network.roi_strides, ROI_SIZE))
        logits, deltas = logits.float(), deltas.float()
        finite = finite & _all_finite(logits.reshape(len(images), -1)) & _all_finite(deltas.reshape(len(images), -1))
        boxes, scores, labels, selected_exact = self._select(boxes, valid, logits, deltas, sizes)
        if self.trim:
            eights = torch.div((scores > 0).sum(dim=1).max() + 7, 8, rounding_mode="floor")
            slots = eights.clamp(min=1) * 8
            boxes, scores, labels = boxes[:, :slots], scores[:, :slots], labels[:, :slots]
        embeddings = self._embed(features.finest, levels, boxes).reshape(len(images), -1, self.config.embedding_dim)
        rows = torch.cat([boxes, scores[..., None], labels[..., None], embeddings], dim=2)
        flags = torch.stack([exact & selected_exact, finite], dim=1).to(rows.dtype)
        header = nn.functional.pad(flags, (0, _EMBEDDING + self.config.embedding_dim - 2))
        return torch.cat([header[:, None], rows], dim=1)

    def _normalised(self, images: Tensor, sizes: Tensor) -> Tensor:
        height, width = self.input_size
        # To float first: TensorRT transposes no bytes.
        pixels = (images.float().permute(0, 3, 1, 2) - self.mean) * self.inverse_std
        rows = torch.arange(height, device=images.device) < sizes[:, 0, None]
        columns = torch.arange(width, device=images.device) < sizes[:, 1, None]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        # The padding is zero after normalising, as the reference has it.
        padded = torch.where(inside, pixels, 0.0)
        return padded.to(dtype=self.dtype, memory_format=torch.channels_last)

    def _propose(self, features: Features, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Proposals [B, P, 4], which of them are in use [B, P], and whether all is exact and finite [B]."""
        config = self.config.proposals
        output = self.network.rpn(features.pyramid)
        logits, deltas = _by_anchor(output.logits, 1).flatten(1), _by_anchor(output.deltas, 4)
        finite = _all_finite(logits) & _all_finite(deltas.flatten(1))
        counts = self._anchors_of_levels
        most = min(config.per_level, max(counts))
        scores, rows, first = [], [], 0
        for objectness, count in zip(logits.sigmoid().split(counts, dim=1), counts, strict=True):
            slots = min(most, count)
            best, order = _best(objectness, slots)
            unused = (0, most - slots)
            scores.append(nn.functional.pad(best, unused, value=-1.0))
            rows.append(nn.functional.pad(order + first, unused))
            first += count
        all_scores, all_rows = torch.stack(scores, dim=1), torch.stack(rows, dim=1).flatten(1)
        all_boxes = decode_deltas(self.anchors[all_rows].flatten(0, 1), _rows(deltas, all_rows).flatten(0, 1))
        all_boxes = self._clip(all_boxes.reshape(*all_rows.shape, 4), sizes).reshape(*all_scores.shape, 4)
        large = ((all_boxes[..., 2:] - all_boxes[..., :2]) > config.min_size).all(dim=-1)
        suppression = fixed_point_nms(
            all_boxes, large & (all_scores >= 0), config.nms_iou, self.nms_steps, dtype=self.dtype
        )
        kept_scores = torch.where(suppression.keep, all_scores, -1.0).flatten(1)
        total, order = _best(kept_scores, min(config.total, kept_scores.shape[1]))
        in_use = total >= 0
        chosen = torch.where(in_use[..., None], _rows(all_boxes.flatten(1, 2), order), 0.0)
        return chosen, in_use, suppression.converged.all(dim=1), finite

    def _select(
        self, proposals: Tensor, valid: Tensor, logits: Tensor, deltas: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detections: boxes [B, N, 4], scores [B, N], labels [B, N], and whether they are exact [B]."""
        config = self.config
        batch, count = valid.shape
        boxes = decode_deltas(proposals.flatten(0, 1), deltas).reshape(batch, count, -1, 4)
        boxes = self._clip(boxes.flatten(1, 2), sizes)
        scores = logits.softmax(dim=-1)[:, :-1].reshape(batch, count, -1)
        if not config.clip_boxes:  # a finite offset may reach infinity, from where clipping would bring it back
            valid = valid & _all_finite(boxes.reshape(batch * count, -1)).reshape(batch, count)
        over = (scores > config.score_threshold) & valid[..., None]
        ranked, order = _best(torch.where(over, scores, 0.0).flatten(1), self.candidates)
        rows = torch.div(order, config.num_classes, rounding_mode="floor")
        labels = order - rows * config.num_classes
        candidates = _rows(boxes, rows if config.class_agnostic_boxes else order)
        suppression = fixed_point_nms(candidates, ranked > 0, config.nms_iou, self.nms_steps, labels, self.dtype)
        kept = torch.where(suppression.keep, ranked, 0.0)
        best, chosen = _best(kept, self.slots)
        # Candidates that found no slot cannot matter when the slots alone gave all the detections there may be.
        complete = (over.flatten(1).sum(dim=1) <= self.candidates) | (suppression.keep.sum(dim=1) >= best.shape[1])
        found = torch.where((best > 0)[..., None], _rows(candidates, chosen), 0.0)
        return found, best, labels.gather(1, chosen).to(found.dtype), suppression.converged & complete

    def _pool(self, levels: list[Tensor], boxes: Tensor, strides: tuple[int, ...], size: tuple[int, int]) -> Tensor:
        if self.pooling == "roi_align":
            pooled = pool_level_by_level(levels, boxes, strides, size, self.config.roi_finest_size)
        else:
            pooled = pool_from_atlas(levels, boxes, strides, size, self.config.roi_finest_size, _ATLAS_SAMPLES)
        return pooled.to(self.dtype)

    def _embed(self, finest: Tensor, levels: list[Tensor], boxes: Tensor) -> Tensor:
        size = self.config.embedding_roi_size
        if self.config.embedding_from == "pyramid":
            return self.network.embedding_head(self._pool(levels, boxes, self.network.roi_strides, size)).float()
        pooled = self._pool([_for_pooling(finest)], boxes, self.network.backbone.strides[:1], size)
        return self.network.embedding_head(pooled.contiguous(memory_format=torch.channels_last)).float()

    def _clip(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Boxes [B, N, 4] clipped to the images, where the configuration wants it."""
        if not self.config.clip_boxes:
            return boxes
        limits = sizes.flip(1).repeat(1, 2)[:, None]
        return torch.minimum(boxes.clamp(min=0), limits)


def unpack(packed: Tensor) -> list[Unpacked]:
    """The images' parts of what :meth:`StaticQDTrack.forward` gives, on the host."""
    rows = packed[:, 1:]
    return [
        Unpacked(
            one[:, _BOX], one[:, _SCORE], one[:, _LABEL], one[:, _EMBEDDING:], bool(flags[0] > 0), bool(flags[1] > 0)
        )
        for one, flags in zip(rows, packed[:, 0], strict=True)
    ]


@torch.no_grad()
def fold_network(network: QDTrack) -> None:
    """Fold constants: BatchNorm into the convolution before it, the deltas' deviations into the regressor."""
    regressor = network.box_head.regressor
    stds = torch.tensor(BOX_DELTA_STDS).repeat(regressor.out_features // 4)
    regressor.weight.mul_(stds[:, None])
    regressor.bias.mul_(stds)
    if not isinstance(network.backbone, ResNet):
        return
    for parent in network.backbone.modules():
        children = dict(parent.named_children())
        if isinstance(parent, nn.Sequential) and isinstance(children.get("1"), nn.BatchNorm2d):
            pairs = [("0", "1")]
        else:
            pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3) if f"bn{i}" in children]
        for conv_name, norm_name in pairs:
            conv, norm = children[conv_name], children[norm_name]
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            weight, bias = fold_batch_norm(
                conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
            )
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            setattr(parent, norm_name, nn.Identity())


@torch.no_grad()
def _reverse_input_channels(network: QDTrack) -> None:
    """Let the first convolution read BGR in place of RGB: the input is not copied for it."""
    first = network.backbone.conv1 if isinstance(network.backbone, ResNet) else network.backbone.stem
    assert isinstance(first, nn.Conv2d)
    first.weight.copy_(first.weight.flip(1))


def _for_pooling(level: Tensor) -> Tensor:
    """A map as RoIAlign wants it, once for all regions: it would make a copy for each call."""
    return level.to(dtype=torch.float32, memory_format=torch.contiguous_format)


def _by_anchor(maps: list[Tensor], values: int) -> Tensor:
    """What maps [B, A * values, H, W] of all levels say of every anchor: float32 [B, anchors, values]."""
    return torch.cat([one.permute(0, 2, 3, 1).reshape(len(one), -1, values) for one in maps], dim=1).float()


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of float32 scores [B, N] by falling score, [B, count], and their places; of equal ones the first.

    So does a stable sort, which the reference form has. PyTorch's topk takes any of equal scores; that of ONNX the
    first, by its specification, which ONNX Runtime keeps and OpenVINO does not.
    """
    if torch.onnx.is_in_onnx_export():
        best, order = scores.topk(count, dim=1)
        return best, order
    # Bits of numbers above 0 have their order. Those below are all -1 here.
    places = torch.arange(scores.shape[1], device=scores.device)
    order = (scores.view(torch.int32).long() * 2**32 - places).topk(count, dim=1).indices
    return scores.gather(1, order), order


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows [B, K, 4] that ``index`` [B, K] names in ``table`` [B, N, 4]."""
    return table.gather(1, index[..., None].expand(-1, -1, table.shape[2]))


def _all_finite(values: Tensor) -> Tensor:
    """Flags [B] of values [B, N]. A comparison, which every engine answers with false for NaN."""
    return (values.abs() <= torch.finfo(values.dtype).max).all(dim=1)
