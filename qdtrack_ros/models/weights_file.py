"""Weights files on disk: safetensors and torch files, read without running or allocating what a hostile one asks for.

Torch files are pickles. They are read with ``weights_only=True``; what training frameworks store beside the weights
(numpy numbers, histories, settings) becomes an inert stand-in, so that nothing of it is imported, built or called.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from qdtrack_ros.files import file_sha256, replacing
from qdtrack_ros.models.conversion.layout import FileFacts

# Keys of our safetensors headers.
LABELS, BACKBONE_STYLE, UNTRAINED = "labels", "backbone_style", "untrained"
_STATE_KEYS = ("state_dict", "model", "model_state_dict")
_HEADER_LENGTH_BYTES = 8


class CheckpointError(RuntimeError):
    """A weights file that cannot be used; the message names the file, what is wrong and what to do."""


class WeightsFile(NamedTuple):
    """What a weights file holds.

    Attributes:
        path: of the file.
        tensors: by the file's names.
        facts: what it tells about itself.
        besides: other entries of the file: optimizer, settings.
        metadata: text in a safetensors header.
    """

    path: Path
    tensors: dict[str, Tensor]
    facts: FileFacts
    besides: tuple[str, ...] = ()
    metadata: Mapping[str, str] = {}


class _Inert:
    """Stands for an object of a foreign class: takes whatever it is given and does nothing with it."""

    def __new__(cls, *_: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Classes and functions that harmless checkpoints name. None of them is imported or called: each name yields the
# stand-in, whatever a hostile file would use it for. Every other name refuses the file.
_STAND_INS: list[Any] = [
    (_Inert, "numpy.core.multiarray._reconstruct"),
    (_Inert, "numpy._core.multiarray._reconstruct"),
    (_Inert, "numpy.core.multiarray.scalar"),
    (_Inert, "numpy._core.multiarray.scalar"),
    (_Inert, "numpy.ndarray"),
    (_Inert, "numpy.dtype"),
    (_Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_Inert, "builtins.getattr"),  # by which a HistoryBuffer names its methods
    (_Inert, "mmengine.config.config.ConfigDict"),
    (_Inert, "argparse.Namespace"),
    (_Inert, "pathlib.PosixPath"),
    (_Inert, "datetime.datetime"),
    (_Inert, "datetime.timedelta"),
    (OrderedDict, "mmcv.utils.config.ConfigDict"),
    (OrderedDict, "addict.addict.Dict"),
]


def read_torch_file(path: Path) -> object:
    """What a torch file holds: tensors, numbers, text and containers of these. Nothing in it is executed.

    Raises:
        CheckpointError: missing, truncated, packed, or a pickle that wants to run code.
        OSError: it may not be read.
    """
    _check_exists(path)
    path.open("rb").close()  # says plainly when the file may not be read
    _check_not_packed(path)
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            # The file loads or is refused; what torch remarks on its protocol would only stand before that one line.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning, r"torch\.")
            with path.open("rb") as file:  # not by its name, from which torch would guess what it is
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text goes on to advise loading the file without this check.
        wanted = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        raise CheckpointError(
            f"weights file {path} is damaged, or a pickle that wants to run code"
            f"{f' ({wanted[1]})' if wanted else ''}; it was refused and nothing in it was "
            "run; get it again from a source you trust, as safetensors or as a plain state dict"
        ) from error
    except Exception as error:  # a damaged file can fail in any way, with an OSError too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights file {path} is damaged, or holds more than tensors and was refused ({reason}); "
            "get it again from a source you trust"
        ) from error


def read_weights_file(path: Path) -> WeightsFile:
    """Read a safetensors file, or a torch file as plain data.

    Raises:
        CheckpointError: missing, truncated, not a weights file, or a pickle that wants to run code.
    """
    _check_exists(path)
    _check_no_page(path)
    if _is_safetensors(path):
        return _read_safetensors(path)
    content = read_torch_file(path)
    outer: dict[Any, Any] = {}
    if isinstance(content, dict):
        key = next((k for k in _STATE_KEYS if isinstance(content.get(k), dict)), None)
        if key is not None:
            outer, content = content, content[key]
    if not _is_state_dict(content):
        raise CheckpointError(
            f"weights file {path} holds no state dict of tensors; expected a checkpoint of this model"
        )
    besides = tuple(str(k) for k, value in outer.items() if value is not content)
    return WeightsFile(path, content, _facts(path, outer.get("meta")), besides)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; see :func:`read_weights_file`."""
    return read_weights_file(path).tensors


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, atomically: the path holds the old file or the new one, never half of one."""
    data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, dict(metadata))
    with replacing(path) as file:
        file.write(data)


def _check_exists(path: Path) -> None:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise CheckpointError(f"weights file {path} is {kind}; name the file of the weights")
    if not path.is_file():
        raise CheckpointError(
            f"weights file {path} does not exist; check the path, or leave it empty for the preset's own"
        )


def _check_no_page(path: Path) -> None:
    """Name what a browser saves where a host wants a person to confirm the download."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"weights file {path} is a web page; open its address in a browser and save the file that the page offers"
        )


def _is_safetensors(path: Path) -> bool:
    """By content, whatever the file is called; by its name where the content is neither format's."""
    with path.open("rb") as file:
        start = file.read(_HEADER_LENGTH_BYTES + 1)
    if start.startswith((b"PK\x03\x04", b"\x80")):  # a torch file: an archive, or a bare pickle
        return False
    return start[_HEADER_LENGTH_BYTES:] == b"{" or path.suffix == ".safetensors"


def _read_safetensors(path: Path) -> WeightsFile:
    _check_header(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
            return WeightsFile(path, tensors, _header_facts(metadata), metadata=metadata)
    except SafetensorError as error:
        message = f"weights file {path} is damaged or not safetensors ({error}); get it again"
        raise CheckpointError(message) from error


def _check_header(path: Path) -> None:
    """Refuse a header that is longer than the file, before anything makes room for it."""
    with path.open("rb") as file:
        claimed = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
    if claimed > path.stat().st_size - _HEADER_LENGTH_BYTES:
        raise CheckpointError(
            f"weights file {path} is damaged or not safetensors: its header claims {claimed} bytes, the file has "
            f"{path.stat().st_size}; get it again"
        )


def _check_not_packed(path: Path) -> None:
    """Refuse a torch file whose entries are compressed: torch.save never does it, and little can become much."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older format of torch, or damaged: torch.load tells
    if packed:
        size = sum(entry.file_size for entry in packed)
        raise CheckpointError(
            f"weights file {path} was refused: it is a compressed archive that would unpack to {size} bytes or more; "
            "get it again as torch.save wrote it, or as safetensors"
        )


def _header_facts(metadata: Mapping[str, str]) -> FileFacts:
    """What `qdtrack convert` wrote into a header about the tensors."""
    try:
        labels = json.loads(metadata.get(LABELS, "[]"))
    except ValueError:
        labels = []
    return FileFacts(classes=_names(labels), style=metadata.get(BACKBONE_STYLE, ""))


def _names(value: object) -> tuple[str, ...]:
    """Names where the value is a list of them, else none."""
    known = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    return tuple(value) if known else ()  # type: ignore[arg-type]


def _is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and _is_stored(tensor) for name, tensor in content.items()
    )


def _is_stored(tensor: Tensor) -> bool:
    """Whether it is an ordinary tensor with every element in the file: not one value spread over a huge shape."""
    plain = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _facts(path: Path, meta: object) -> FileFacts:
    """What a checkpoint tells about itself: mmcv's and mmengine's ``meta`` has the configuration.

    It has names of classes too, but not in the order of the classifier: mmdet numbers classes as the annotation file
    lists them, and those names only say which of them count.
    """
    meta = meta if isinstance(meta, dict) else {}
    configuration = next((meta[key] for key in ("config", "cfg") if isinstance(meta.get(key), str)), "")
    # Where both styles are named, one of them is of another network, and nothing follows.
    styles = set(re.findall(r"""['"]?style['"]?\s*[:=]\s*['"](pytorch|caffe)['"]""", configuration))
    return FileFacts(file_sha256(path), style=styles.pop() if len(styles) == 1 else "")
