"""TensorRT engines on disk: each with what it was built for, so that no other one is ever loaded in its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from qdtrack_ros.catalogue import cache_folder
from qdtrack_ros.files import replacing
from qdtrack_ros.inference.types import EngineError

_MAGIC = b"qdtrack_ros engine 1\n"


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on.

    Attributes:
        weights: hash of the weights.
        graph_version: of the static form.
        height, width, batch: of the input.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        settings: hash of the network's other settings: thresholds, limits, normalisation.
        library: ``tensorrt`` or ``tensorrt_rtx``, and its version.
        compute_capability: of the GPU, e.g. ``8.6``.
    """

    weights: str
    graph_version: int
    height: int
    width: int
    batch: int
    precision: str
    settings: str
    library: str
    compute_capability: str

    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell keys apart."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def engine_path(key: EngineKey) -> Path:
    """Where the engine of a key lies in the cache folder."""
    return cache_folder() / "engines" / f"{key.weights}-{key.width}x{key.height}x{key.batch}-{key.digest()}.engine"


def write_engine(path: Path, key: EngineKey, engine: bytes) -> None:
    """Write an engine whole or not at all."""
    header = {**dataclasses.asdict(key), "sha256": hashlib.sha256(engine).hexdigest()}
    with replacing(path) as file:
        file.write(_MAGIC + json.dumps(header).encode() + b"\n")
        file.write(engine)


def read_engine(path: Path, key: EngineKey) -> bytes:
    """The engine of a file, if it is the one that the key asks for.

    Raises:
        EngineError: it is another one, or damaged.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    head, _, engine = content.removeprefix(_MAGIC).partition(b"\n")
    if not content.startswith(_MAGIC):
        raise EngineError(f"{path} is not an engine of `qdtrack export`; remove it, or export again")
    try:
        header = json.loads(head)
        sound = header.pop("sha256") == hashlib.sha256(engine).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise EngineError(f"{path} is damaged; remove it, or export again")
    wanted = dataclasses.asdict(key)
    other = [
        f"{name} {header.get(name)} instead of {wanted[name]}" for name in wanted if header.get(name) != wanted[name]
    ]
    if other:
        raise EngineError(f"{path} was built for {', '.join(other)}; export again")
    return engine
