"""Torchvision's own detector, to measure beside ours: R50-FPN with random weights, which has no embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from qdtrack_ros.cli.timing import in_turns, repeated
from qdtrack_ros.inference.engine import backend_of, cpu_graph_backends
from qdtrack_ros.inference.preprocess import PreprocessConfig
from qdtrack_ros.inference.static_engine import Backend, static_form
from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.config import ProposalConfig
from qdtrack_ros.models.qdtrack import RawDetections

CLASSES = 8
PROPOSALS = 1000
WARMUP = 2


def comparison_figures(size: tuple[int, int], repeats: int) -> list[dict[str, Any]]:
    """`qdtrack benchmark torchvision`: time of a picture in both networks, in turns.

    R50-FPN, random weights, 1000 proposals each, at most 100 detections.

    All run their NMS of proposals, with a threshold of 1: it removes none, so that all heads get 1000. The static form
    is measured from bytes to the packed tensor, in every engine there is. Where one of them has bfloat16, torchvision's
    runs in it, too, by PyTorch's autocast.
    """
    width, height = (-(-side // 32) * 32 for side in size)
    torch.manual_seed(0)
    picture = torch.rand(3, height, width)
    offered = cpu_graph_backends()
    backends = [backend_of(name, torch.device("cpu"), precision, "") for name, precision in offered]
    runs = {
        "qdtrack without embeddings": _ours(picture, embed=False),
        "qdtrack": _ours(picture, embed=True),
        **{f"qdtrack static, {backend.name}": _static(picture, backend) for backend in backends},
        "torchvision fasterrcnn_resnet50_fpn": _torchvision(picture),
    }
    if any(precision == "bf16" for _, precision in offered):
        runs["torchvision fasterrcnn_resnet50_fpn, bf16"] = _in_bfloat16(_torchvision(picture))
    with torch.inference_mode():
        times = in_turns(runs, repeats, WARMUP)
    case = {"size": f"{width}x{height}", "proposals": PROPOSALS, "threads": torch.get_num_threads()}
    return [{"case": {"network": name, **case}, "milliseconds": figures} for name, figures in times.items()]


def detector_figures(
    picture_size: tuple[int, int], canvas: tuple[int, int], batch: int, device: torch.device, repeats: int
) -> dict[str, Any]:
    """`qdtrack benchmark engine --vs torchvision`: time of a call of :func:`detector_call`.

    Args:
        picture_size: (width, height) that the engines get, to tell the rows apart.
        canvas: (height, width) of the network's input.
        batch: pictures at once.
        device: where it runs.
        repeats: measured calls.
    """
    times = repeated(detector_call(canvas, batch, device), repeats)
    case = {
        "engine": f"torchvision fasterrcnn_resnet50_fpn {device} fp32",
        "size": "x".join(map(str, picture_size)),
        "input": f"{canvas[1]}x{canvas[0]}",
        "batch": batch,
    }
    figures = {"per_picture_ms": times["median"] / batch}
    return {"case": case, "milliseconds": times, "stages": {"inference": times["median"]}, "figures": figures}


def detector_call(
    size: tuple[int, int], batch: int, device: torch.device, compiled: bool = False
) -> Callable[[], list[dict[str, torch.Tensor]]]:
    """Torchvision's detector, from pictures of bytes to boxes, both in host memory.

    In PyTorch's own settings: on CUDA its convolutions are in TensorFloat-32, which is quicker than float32.

    Args:
        size: (height, width) of the network's input, which the pictures have already.
        batch: pictures at once.
        device: where it runs.
        compiled: by torch.compile.
    """
    network: Any = _detector(size).to(device)
    network = torch.compile(network) if compiled else network
    pictures = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for _ in range(batch)]

    def call() -> list[dict[str, torch.Tensor]]:
        with torch.inference_mode():
            found = network([picture.to(device).float() / 255 for picture in pictures])
            return [{name: part.cpu() for name, part in one.items()} for one in found]

    return call


def _network() -> QDTrack:
    config = ModelConfig(num_classes=CLASSES, proposals=ProposalConfig(PROPOSALS, 1.0, PROPOSALS))
    return QDTrack(config).eval()


def _static(picture: torch.Tensor, backend: Backend) -> Callable[[], object]:
    size = (picture.shape[1], picture.shape[2])
    form = static_form(_network(), PreprocessConfig(), size, backend.pooling, backend.dtype, backend.trim)
    (graph,) = backend.build(form, [1], 1)
    images = (picture.permute(1, 2, 0)[None] * 255).byte().numpy().copy()
    sizes = np.array([size], np.float32)
    return lambda: graph.run(images, sizes)


def _ours(picture: torch.Tensor, embed: bool) -> Callable[[], list[RawDetections]]:
    network = _network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = picture[None].contiguous(memory_format=torch.channels_last)
    size = (picture.shape[1], picture.shape[2])
    if not embed:
        network.embed = lambda features, boxes: images.new_zeros(sum(map(len, boxes)), network.config.embedding_dim)  # type: ignore[method-assign]
    return lambda: network(images, [size], [(1.0, 1.0)])


def _torchvision(picture: torch.Tensor) -> Callable[[], object]:
    size = (picture.shape[1], picture.shape[2])
    network = _detector(size, rpn_pre_nms_top_n_test=PROPOSALS, rpn_post_nms_top_n_test=PROPOSALS, rpn_nms_thresh=1.0)
    return lambda: network([picture])


def _detector(size: tuple[int, int], **settings: float) -> nn.Module:
    """For pictures of (height, width), which it does not resize."""
    network: nn.Module = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=min(size),
        max_size=max(size),
        **settings,
    )
    return network.eval()


def _in_bfloat16(run: Callable[[], object]) -> Callable[[], object]:
    def run_in_bfloat16() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return run_in_bfloat16
