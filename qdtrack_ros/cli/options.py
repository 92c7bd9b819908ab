"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qdtrack_ros import configuration

if TYPE_CHECKING:
    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Engine

SMALLEST = 32  # pixels of a picture's side: a street needs some room


def add_model_options(parser: argparse.ArgumentParser, several_engines: bool = False) -> None:
    """Which model, and where it runs; with ``several_engines`` lists of engines and precisions."""
    group = parser.add_argument_group("model")
    add_preset_options(group)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    engine_help = "auto, torch, openvino, onnxruntime, tensorrt or noop (default: auto)"
    precision_help = "auto, fp32, fp16 or bf16 (default: auto, which is fp32)"
    for option, help_text in (("--engine", engine_help), ("--precision", precision_help)):
        if several_engines:
            group.add_argument(option, nargs="+", default=["auto"], help=help_text)
        else:
            group.add_argument(option, default="auto", help=help_text)
    add_set_option(group, "of the preset, e.g. association.match_score=0.6")


def make_engine(preset: Preset, arguments: argparse.Namespace) -> Engine:
    """The engine that the options of :func:`add_model_options` ask for.

    Raises:
        EngineError, CheckpointError: it cannot be had, with what to do.
    """
    from qdtrack_ros.inference.engine import create_engine  # loads PyTorch

    return create_engine(preset, arguments.weights, arguments.device, arguments.engine, precision=arguments.precision)


def add_preset_options(parser: argparse._ActionsContainer) -> None:
    """Which network with which weights."""
    preset_help = "name, or path of a YAML file (default: that of the weights named, else pedestrian)"
    parser.add_argument("--preset", help=preset_help)
    weights_help = "file of the weights, or a name of `qdtrack weights`, with its settings (default: the preset's own)"
    parser.add_argument("--weights", metavar="FILE", help=weights_help)


def add_set_option(parser: argparse._ActionsContainer, what: str) -> None:
    """`--set key=value ...`, collected in `arguments.set`."""
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], type=setting, metavar="KEY=VALUE", help=f"other values {what}"
    )


def setting(text: str) -> tuple[str, Any]:
    """Key and value of `key=value`; see :func:`qdtrack_ros.configuration.setting`."""
    try:
        return configuration.setting(text)
    except configuration.ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def overrides(settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The values of `--set` by dotted key; the last one of a key wins."""
    return dict(settings)


def two_names(text: str, separator: str, form: str) -> tuple[str, str]:
    """The names before and after a separator, for argparse; ``form`` says what is expected."""
    first, found, second = text.partition(separator)
    if not (first and found and second):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
    return first, second


def natural(text: str) -> int:
    """A number of things there may be none of, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def share(text: str) -> float:
    """A number of things that can be divided, at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value:g} is not at least 0")
    return value


def positive_number(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value:g} is not above 0")
    return value


def size(text: str) -> tuple[int, int]:
    """Width and height of `768x576`."""
    width, separator, height = text.lower().partition("x")
    if not separator or not width.isdecimal() or not height.isdecimal() or min(int(width), int(height)) < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form WIDTHxHEIGHT, each at least {SMALLEST}")
    return int(width), int(height)
