"""The static form as ONNX."""

from __future__ import annotations

import io
import warnings

import torch

from qdtrack_ros.models.static import StaticQDTrack

INPUTS = ("images", "sizes")
OUTPUT = "packed"
OPSET = 18


def onnx_bytes(form: StaticQDTrack, batch: int) -> bytes:
    """The graph with its weights, as bytes of an ONNX file.

    By PyTorch's exporter that traces: the newer one takes twelve times as long for the same network and leaves
    transpositions in it, with which ONNX Runtime takes twice as long.

    Args:
        form: on the CPU.
        batch: pictures at once.
    """
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
