"""`qdtrack convert`: a checkpoint of another implementation, as weights of ours."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from qdtrack_ros.cli.options import add_set_option, overrides, two_names
from qdtrack_ros.files import check_writable

if TYPE_CHECKING:
    from qdtrack_ros.models.config import ModelConfig
    from qdtrack_ros.models.conversion import Conversion
    from qdtrack_ros.models.qdtrack import QDTrack
    from qdtrack_ros.models.weights_file import WeightsFile

_SEED = 0

_EPILOG = """Examples:
  qdtrack convert qdtrack-frcnn_r50_fpn_12e_bdd100k.pth -o bdd100k.safetensors
  qdtrack convert fasterrcnn_resnet50_fpn_coco-258fb6c6.pth -o start.safetensors --preset my.yaml --take rider=person

Layouts: SysCV/qdtrack (old and new), mmtracking 0.x, mmdetection 3, vis4d; torchvision's COCO detector and ImageNet
ResNets, to start a training from. docs/checkpoints.md tells what is converted, and what differs.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="torch file or safetensors; nothing in it is run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .safetensors file to write")
    parser.add_argument(
        "--preset", help="network and labels it is for: name or YAML file (default: those of the checkpoint itself)"
    )
    parser.add_argument(
        "--take",
        nargs="+",
        action="extend",
        default=[],
        type=label_and_class,
        metavar="LABEL=CLASS",
        help="the checkpoint's class that a label of the preset is taken from, where the names differ",
    )
    parser.add_argument(
        "--classes", nargs="+", default=[], metavar="NAME", help="the checkpoint's classes in its order, where unknown"
    )
    add_set_option(parser, "of the preset, e.g. model.backbone_style=caffe")


def label_and_class(text: str) -> tuple[str, str]:
    """The two names of `label=class`."""
    return two_names(text, "=", "label=class")


def run(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint."""
    from qdtrack_ros.models.checkpoint import convert_weights, save_converted
    from qdtrack_ros.models.weights_file import read_weights_file

    check_output(arguments.checkpoint, arguments.output)
    file = read_weights_file(arguments.checkpoint)
    if arguments.classes:
        file = file._replace(facts=file.facts._replace(classes=tuple(arguments.classes)))
    model, labels, metadata = preset_network(arguments) if arguments.preset else deduced_network(arguments, file)
    conversion = convert_weights(file, model, labels, dict(arguments.take))
    save_converted(conversion, file, model, arguments.output, metadata)
    print("\n".join(report(conversion, file, model)))
    print(f"weights: {arguments.output}")
    return 0


def preset_network(arguments: argparse.Namespace) -> tuple[QDTrack, tuple[str, ...], dict[str, str]]:
    """The preset's network, its labels, and what the header tells of them.

    Raises:
        ConfigurationError: there is no such preset, or `--take` names a label that it has not.
    """
    from qdtrack_ros.configuration import ConfigurationError
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set))
    unknown = [label for label, _ in arguments.take if label not in preset.labels]
    if unknown:
        raise ConfigurationError(
            f"--take names {', '.join(unknown)}; preset {preset.name} has the labels {', '.join(preset.labels)}"
        )
    metadata = {"preset": preset.name, "labels": json.dumps(preset.labels)}
    return initial_network(preset.model), preset.labels, metadata


def deduced_network(
    arguments: argparse.Namespace, file: WeightsFile
) -> tuple[QDTrack, tuple[str, ...], dict[str, str]]:
    """The network that the checkpoint's shapes tell; it keeps the checkpoint's classes and their order.

    Raises:
        ConfigurationError: an option needs a preset.
        CheckpointError: the checkpoint is of no network that we know.
    """
    from qdtrack_ros.configuration import ConfigurationError
    from qdtrack_ros.models.conversion import ConversionError, class_names, network_of
    from qdtrack_ros.models.weights_file import CheckpointError

    if arguments.take or arguments.set:
        raise ConfigurationError("--take and --set are about the labels and values of a preset; name it with --preset")
    try:
        config = network_of(file.tensors, file.facts)
    except ConversionError as error:
        raise CheckpointError(f"weights file {file.path} {error}") from error
    names = class_names(file.tensors, file.facts)
    return initial_network(config), names, {"labels": json.dumps(names)} if names else {}


def check_output(checkpoint: Path, output: Path) -> None:
    """Refuse what cannot be written, what our readers would not take for safetensors, and the checkpoint itself.

    Raises:
        ConfigurationError, OSError: one of these, with what to do.
    """
    from qdtrack_ros.configuration import ConfigurationError

    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder; name a file, such as {output / 'model.safetensors'}")
    if output.suffix != ".safetensors":
        raise ConfigurationError(f"{output} does not end in .safetensors, which is what is written; name it so")
    if output.exists() and checkpoint.exists() and output.samefile(checkpoint):
        raise ConfigurationError(f"{output} is the checkpoint itself; write to another file")
    check_writable(output)


def initial_network(config: ModelConfig) -> QDTrack:
    """The network before any training; the same values every time, so that the same file comes out."""
    import torch

    from qdtrack_ros.models.qdtrack import QDTrack

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return QDTrack(config)


def report(conversion: Conversion, file: WeightsFile, model: QDTrack) -> list[str]:
    """What was recognised and done, line by line."""
    config = model.config
    style = f"{conversion.style} style" if conversion.style else "the file does not tell its style"
    lines = [
        f"layout: {conversion.layout.name}",
        f"network: {config.backbone} ({style}), {counted(config.num_classes)}, embedding of {config.embedding_dim}",
        f"tensors: {conversion.used} of {len(file.tensors)} used",
        *[f"left aside: {count} tensors: {reason}" for reason, count in conversion.aside.items()],
    ]
    if file.besides:
        lines.append(f"left aside: {', '.join(file.besides)}: not weights of the network")
    if "box_head" not in conversion.untrained:
        lines.append(f"classes: {described(conversion.classes, config.num_classes)}")
    if conversion.untrained:
        lines.append(
            f"not in this layout: {', '.join(sorted(conversion.untrained))}; left at initial values, so train from "
            "this file (initial_weights) before tracking with it"
        )
    return lines


def counted(classes: int) -> str:
    """A number of classes, in words that fit it."""
    return "1 class" if classes == 1 else f"{classes} classes"


def described(pairs: list[tuple[str, str]], count: int) -> str:
    """The classes by name, where names are known."""
    if not pairs:
        return f"{count}, in the checkpoint's order; it does not tell their names"
    return ", ".join(label if label == name else f"{label} (there: {name})" for label, name in pairs if name)
