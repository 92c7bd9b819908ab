"""`qdtrack export`: the network as an ONNX file, or as a TensorRT engine for this GPU or another one."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qdtrack_ros.cli.options import add_preset_options, add_set_option, overrides, positive, size
from qdtrack_ros.files import check_writable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Detections
    from qdtrack_ros.models.qdtrack import QDTrack
    from qdtrack_ros.models.static import StaticQDTrack

# Least part of the detections that must be the same in ONNX Runtime and in PyTorch, and how far scores may be apart.
_AGREEMENT = {"fp32": (0.995, 1e-3), "fp16": (0.9, 2e-2), "bf16": (0.8, 1e-1)}
# TensorRT's tensors have less than 2^31 numbers, and the first convolution gives 16 for each pixel.
_MOST_PIXELS = 2**27 - 1

_EPILOG = """Examples:
  qdtrack export --format onnx -o pedestrian.onnx
  qdtrack export --format onnx --pooling roi_align -o pedestrian.onnx      for ONNX Runtime and OpenVINO
  qdtrack export --format tensorrt --preset bdd100k --weights bdd100k-r50 --precision fp16
  qdtrack export --format tensorrt --compute-capability 8.6 -o engine      for a GPU that is not in this machine

Before anything is written, the graph runs on a picture in ONNX Runtime (bf16: OpenVINO), to be compared with PyTorch.
docs/deployment.md tells inputs and outputs, and what to do on a Jetson.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


class Picture(NamedTuple):
    """A picture to compare on.

    Attributes:
        name: for people.
        image: uint8 BGR [H, W, 3].
    """

    name: str
    image: npt.NDArray[np.uint8]


class Exported(NamedTuple):
    """A static form, ready to be written.

    Attributes:
        preset: what it is of.
        model_id: hash of its weights.
        network: the reference form.
        form: the static one.
        batch: pictures at once.
        precision: of the weights.
        graph: bytes of its ONNX file.
    """

    preset: Preset
    model_id: str
    network: QDTrack
    form: StaticQDTrack
    batch: int
    precision: str
    graph: bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("--format", choices=("onnx", "tensorrt"), required=True)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="needed for onnx; tensorrt: default the cache"
    )
    add_preset_options(parser)
    size_help = "of the camera's pictures, which are resized to fit into the preset's image_scale (default: that)"
    parser.add_argument("--size", type=size, metavar="WxH", help=size_help)
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="pictures at once (default: 1)")
    parser.add_argument("--precision", choices=tuple(_AGREEMENT), default="fp32", help="default: %(default)s")
    pooling_help = "atlas: for TensorRT, and default; roi_align: exact and quicker in ONNX Runtime and OpenVINO"
    parser.add_argument("--pooling", choices=("atlas", "roi_align"), default="atlas", help=pooling_help)
    capability_help = "of the GPU that the engine is for, e.g. 8.6 (default: the one in this machine)"
    parser.add_argument("--compute-capability", type=capability, metavar="X.Y", help=capability_help)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="to compare on (default: a drawn street)")
    add_set_option(parser, "of the preset, e.g. model.max_detections=50")


def capability(text: str) -> str:
    """A compute capability, for argparse."""
    if not re.fullmatch(r"\d+\.\d", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form X.Y, e.g. 8.6")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Export, compare, write."""
    from qdtrack_ros.configuration import ConfigurationError

    if arguments.format == "onnx" and arguments.output is None:
        raise ConfigurationError("an ONNX file needs a name: -o FILE.onnx")
    if arguments.format == "onnx" and arguments.compute_capability is not None:
        raise ConfigurationError(
            "an ONNX file is for any GPU; leave --compute-capability out, or use --format tensorrt"
        )
    if arguments.format == "tensorrt" and arguments.pooling != "atlas":
        raise ConfigurationError("TensorRT has no RoIAlign of its own; use --pooling atlas with --format tensorrt")
    if arguments.output is not None:
        check_writable(arguments.output)
    write = {"onnx": write_graph, "tensorrt": write_tensorrt}[arguments.format]
    write(arguments)
    return 0


def write_graph(arguments: argparse.Namespace) -> None:
    """Write the ONNX file."""
    from qdtrack_ros.inference.onnx_file import GraphFacts, write_onnx

    picture = load_picture(arguments.picture)
    exported = export(arguments)
    print(compare(exported, picture))
    height, width = exported.form.input_size
    facts = GraphFacts(
        preset=exported.preset.name,
        model_id=exported.model_id,
        width=width,
        height=height,
        batch=exported.batch,
        precision=exported.precision,
        pooling=exported.form.pooling,
        labels=exported.preset.labels,
        image_scale=exported.preset.preprocess.image_scale,
        max_detections=exported.form.slots,
        embedding_dim=exported.form.config.embedding_dim,
    )
    write_onnx(arguments.output, exported.graph, facts)
    print(f"input {width}x{height}, batch {exported.batch}, {exported.precision}: {arguments.output}")


def write_tensorrt(arguments: argparse.Namespace) -> None:
    """Build the engine and write it."""
    import torch

    from qdtrack_ros.inference.engine_file import engine_path, write_engine
    from qdtrack_ros.inference.tensorrt_backend import build_engine, check_buildable, engine_key, load_library
    from qdtrack_ros.inference.types import EngineError

    wanted = arguments.compute_capability
    if wanted is None and not torch.cuda.is_available():
        raise EngineError("there is no GPU here to build an engine for; name one with --compute-capability, e.g. 8.6")
    library = load_library(offline=wanted is not None)
    if wanted is not None:
        check_buildable(library, wanted, arguments.precision)
    picture = load_picture(arguments.picture)
    exported = export(arguments)
    print(compare(exported, picture))
    capability = wanted or ".".join(map(str, torch.cuda.get_device_capability()))
    key = engine_key(library, exported.form, exported.batch, exported.precision, exported.model_id, capability)
    path = arguments.output or engine_path(key)
    write_engine(path, key, build_engine(library, exported.graph, wanted))
    print(f"{key.library} for compute capability {capability}, {exported.precision}: {path}")
    print(f"on that machine it is looked for as {engine_path(key).name} in the folder engines of its cache")


def load_picture(path: Path | None) -> Picture:
    """What to compare on."""
    from qdtrack_ros.data.media import load_image
    from qdtrack_ros.data.synthetic import street

    return (
        Picture("a drawn street", street(1).frames[0].load()) if path is None else Picture(str(path), load_image(path))
    )


def export(arguments: argparse.Namespace) -> Exported:
    """The static form that the arguments ask for, and its graph."""
    from qdtrack_ros.inference.engine import load_network
    from qdtrack_ros.inference.onnx_file import onnx_bytes
    from qdtrack_ros.inference.preprocess import padded_size, resized_size
    from qdtrack_ros.inference.presets import load_preset
    from qdtrack_ros.inference.static_engine import check_padding, static_form
    from qdtrack_ros.inference.torch_backend import PRECISIONS
    from qdtrack_ros.inference.types import EngineError

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    config = preset.preprocess
    check_padding(config)
    width, height = arguments.size or config.image_scale
    if (width, height) == (0, 0):
        raise EngineError(f"preset {preset.name} does not resize; name the pictures' size with --size WxH")
    input_size = padded_size(*resized_size(height, width, config.image_scale), config.pad_multiple)
    if arguments.batch * input_size[0] * input_size[1] > _MOST_PIXELS:
        raise EngineError(
            f"an input of {arguments.batch} times {input_size[1]}x{input_size[0]} is too large, expected at most "
            f"{_MOST_PIXELS} pixels in all; make --batch or --size smaller"
        )
    network, model_id = load_network(preset, arguments.weights)
    form = static_form(network, config, input_size, arguments.pooling, PRECISIONS[arguments.precision])
    graph = onnx_bytes(form, arguments.batch)
    return Exported(preset, model_id, network, form, arguments.batch, arguments.precision, graph)


def compare(exported: Exported, picture: Picture) -> str:
    """One line on how the graph, run by another tool, agrees with PyTorch.

    Raises:
        EngineError: it does not.
    """
    from qdtrack_ros.inference.agreement import share_matched
    from qdtrack_ros.inference.types import EngineError

    least, tolerance = _AGREEMENT[exported.precision]
    by_torch, by_graph = in_torch(exported, picture.image), in_graph(exported, picture.image)
    share = share_matched(by_graph, by_torch, tolerance)
    if share < least:
        raise EngineError(
            f"the exported graph does not agree with PyTorch: {share:.1%} of the detections are the same, expected "
            f"{least:.1%}; please report this with preset and weights"
        )
    return f"compared with PyTorch on {picture.name}: {len(by_graph.scores)} detections, {share:.1%} equal"


def in_torch(exported: Exported, image: npt.NDArray[np.uint8]) -> Detections:
    """Detections by PyTorch, in the same static form, in pixels of the network's input."""
    import torch

    batch, sizes = prepare(exported, image)
    with torch.inference_mode():
        return first(exported.form(torch.from_numpy(batch), torch.from_numpy(sizes)).numpy())


def in_graph(exported: Exported, image: npt.NDArray[np.uint8]) -> Detections:
    """Detections by ONNX Runtime, in pixels of the network's input; by OpenVINO where it has no such arithmetic."""
    import torch

    from qdtrack_ros.inference.onnxruntime_backend import OnnxRuntimeGraph, open_session
    from qdtrack_ros.inference.openvino_backend import OpenVinoRequest, compiled

    graph = (
        OpenVinoRequest(compiled(exported.graph)[0])
        if exported.precision == "bf16"
        else OnnxRuntimeGraph(open_session(exported.graph, torch.device("cpu")))
    )
    return first(graph.run(*prepare(exported, image)))


def prepare(exported: Exported, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A picture as the graph wants it, the same in every place of the batch."""
    import numpy as np

    from qdtrack_ros.inference.preprocess import letterboxed_size, resized

    canvas = exported.form.input_size
    height, width = letterboxed_size(image.shape[0], image.shape[1], exported.preset.preprocess, canvas)
    batch = np.zeros((exported.batch, *canvas, 3), np.uint8)
    batch[:, :height, :width] = resized(image, (height, width))
    return batch, np.array([[height, width]] * exported.batch, np.float32)


def first(packed: npt.NDArray[np.float32]) -> Detections:
    """Detections of the first picture of a batch."""
    import torch

    from qdtrack_ros.inference.static_engine import slots_in_use
    from qdtrack_ros.models.static import unpack

    return slots_in_use(unpack(torch.from_numpy(packed[:1]))[0])
