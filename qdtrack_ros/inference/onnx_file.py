"""The static form as ONNX: the graph, and a file that says what it is."""

from __future__ import annotations

import dataclasses
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qdtrack_ros.files import replacing
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models.static import GRAPH_VERSION, StaticQDTrack

INPUTS = ("images", "sizes")
OUTPUT = "packed"
OPSET = 18
_KEY = "qdtrack_ros"
_TEXTS = {
    "images": "BGR, resized to fit into image_scale, at the top left; what lies right of it and below is not read",
    "sizes": "(height, width) of each picture in images",
    "packed": "row 0: exact, finite (1 or 0), then zeros; every other row: box (x1, y1, x2, y2) in pixels of images, "
    "score, label, embedding, by falling score; score 0 marks a free row",
}


@dataclass(frozen=True)
class GraphFacts:
    """What an exported graph is, as its file tells.

    Attributes:
        preset: name of the preset.
        model_id: hash of the weights.
        width, height: of the input, which pictures are put into at the top left.
        batch: pictures at once.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        pooling: the form's.
        labels: name of every class.
        image_scale: (width, height) that pictures are resized to fit into, keeping their shape.
        max_detections: N; the output has a row of flags, then N rows of detections.
        embedding_dim: D; a row of the output is box 4, score, label, embedding D.
        graph_version: of the inputs, outputs and arithmetic.
    """

    preset: str
    model_id: str
    width: int
    height: int
    batch: int
    precision: str
    pooling: str
    labels: tuple[str, ...]
    image_scale: tuple[int, int]
    max_detections: int
    embedding_dim: int
    graph_version: int = GRAPH_VERSION


def onnx_bytes(form: StaticQDTrack, batch: int) -> bytes:
    """The graph with its weights, as bytes of an ONNX file.

    By PyTorch's exporter that traces: the newer one takes ten times as long for the same network and leaves
    transpositions in it, with which ONNX Runtime takes twice as long.

    Args:
        form: on the CPU.
        batch: pictures at once.

    Raises:
        EngineError: the package onnx, which the exporter uses, is not installed.
    """
    require_onnx()
    height, width = form.input_size
    images = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * batch, dtype=torch.float32)
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes it takes for constants, which they are here
        torch.onnx.export(
            form,
            (images, sizes),
            file,  # type: ignore[arg-type] # that exporter takes a stream, too
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def write_onnx(path: Path, graph: bytes, facts: GraphFacts) -> None:
    """Check a graph and write it with its facts; see :func:`qdtrack_ros.files.replacing`.

    The file tells by itself what goes in and comes out, for those who have no other part of this project.

    Raises:
        EngineError: the package onnx is not installed, or finds a fault.
    """
    onnx = require_onnx()
    model = onnx.load_from_string(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = _TEXTS[value.name]
    # The exporter leaves these open.
    shape = (facts.batch, 1 + facts.max_detections, 6 + facts.embedding_dim)
    for dimension, size in zip(model.graph.output[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the exported graph is not valid ONNX: {error}") from error
    onnx.helper.set_model_props(model, {_KEY: json.dumps(dataclasses.asdict(facts))})
    with replacing(path) as file:
        file.write(model.SerializeToString())


def read_facts(path: Path) -> GraphFacts:
    """What an exported file is.

    Raises:
        EngineError: it is damaged, not one of ours, or of another version.
        OSError: it cannot be read.
    """
    onnx = require_onnx()
    try:
        model = onnx.load_from_string(path.read_bytes())
        texts = {entry.key: entry.value for entry in model.metadata_props}
        values = json.loads(texts[_KEY])
        facts = GraphFacts(**{**values, "labels": tuple(values["labels"]), "image_scale": tuple(values["image_scale"])})
    except OSError:
        raise
    except Exception as error:  # protobuf has errors of its own for damage
        raise EngineError(f"{path} is not a file of `qdtrack export`, or is damaged; export it again") from error
    if facts.graph_version != GRAPH_VERSION:
        raise EngineError(
            f"{path} has version {facts.graph_version} of the graph, this qdtrack_ros wants {GRAPH_VERSION}; "
            "export it again"
        )
    return facts


def require_onnx() -> Any:
    """The package onnx.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
    except ImportError as error:
        raise EngineError("an ONNX graph needs a package that is not installed: pip install onnx") from error
    return onnx
