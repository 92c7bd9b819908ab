"""The layers of docs/architecture.md: who may import whom, and which one place touches each heavy library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "qdtrack_ros"

# A module imports only from its own line or from lower ones. Modules of the package's root (resources, configuration)
# lie below all of them.
LAYERS = (
    ("cli", "node"),
    ("training", "evaluation"),
    ("inference", "data"),
    ("models", "tracking"),
    ("ops",),
)
HEIGHT = {name: len(LAYERS) - line for line, names in enumerate(LAYERS) for name in names}

# Library -> where it may be imported: a folder (ends in /) or a file. Of a folder marked SINGLE, by one file only.
SINGLE = {"onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings"}
ALLOWED = {
    "rclpy": "node/",
    "qdtrack_ros.msg": "node/",
    "lightning": "training/",
    "jinja2": "evaluation/report/",
    "matplotlib": "evaluation/report/",
    "optuna": "evaluation/tuning.py",
    "trackeval": "evaluation/cross_check.py",
    "rosbags": "data/rosbag/",
    "pyarrow": "data/waymo.py",
    "ray": "cli/parallel.py",
    "onnx": "inference/",
    "onnxruntime": "inference/",
    "openvino": "inference/",
    "tensorrt": "inference/",
    "tensorrt_rtx_bindings": "inference/",
}
# `import qdtrack_ros.tracking` needs numpy only.
TRACKING_MAY_IMPORT = {"numpy", "qdtrack_ros", *sys.stdlib_module_names}


class Import(NamedTuple):
    """One import statement: the file, relative to the package, its line, and the full name imported."""

    file: str
    line: int
    module: str


def imports_of(package: Path) -> Iterator[Import]:
    """Every import under `package`, those inside functions and type-checking blocks included."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (Import(file, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:  # relative: `.` is the file's own folder
                    folders = ("qdtrack_ros", *Path(file).parts[:-1])
                    base = ".".join([*folders[: len(folders) - node.level + 1], *filter(None, [node.module])])
                # `from qdtrack_ros import node` names a module too
                yield from (Import(file, node.lineno, f"{base}.{alias.name}") for alias in node.names)
            elif (
                isinstance(node, ast.Call)
                and getattr(node.func, "attr", "") == "import_module"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield Import(file, node.lineno, str(node.args[0].value))


def height(part: str) -> int:
    """Line of a folder of the package, counted from below; 0 for a module of its root."""
    return HEIGHT.get(part, 0)


def violations(package: Path) -> list[str]:
    """What breaks the rules, a line each."""
    found = []
    users: dict[str, set[str]] = {}
    for item in imports_of(package):
        where = f"{item.file}:{item.line} imports {item.module}"
        folder = item.file.partition("/")[0]
        parts = item.module.split(".")
        ours = parts[0] == "qdtrack_ros" and len(parts) > 1 and item.file != "__init__.py"
        if ours and height(parts[1]) > height(folder):
            found.append(f"{where}: {parts[1]}/ lies above {folder}")
        if folder == "tracking" and parts[0] not in TRACKING_MAY_IMPORT:
            found.append(f"{where}: tracking/ needs numpy only")
        for library, allowed in ALLOWED.items():
            if item.module == library or item.module.startswith(f"{library}."):
                users.setdefault(library, set()).add(item.file)
                if not (item.file.startswith(allowed) if allowed.endswith("/") else item.file == allowed):
                    found.append(f"{where}: {library} belongs to {allowed}")
    for library in SINGLE:
        if len(users.get(library, ())) > 1:
            found.append(f"{library} is imported by {sorted(users[library])}: one module each")
    return found


def test_the_package_keeps_to_its_layers() -> None:
    assert violations(PACKAGE) == []


def test_every_folder_of_the_package_has_its_layer() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(HEIGHT), f"not in LAYERS: {folders - set(HEIGHT)}"


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("ops/planted.py", "from qdtrack_ros.models import qdtrack"),
        ("ops/planted.py", "from qdtrack_ros import models"),
        ("ops/planted.py", "from ..models.qdtrack import QDTrack"),
        ("models/planted.py", "def f():\n    import qdtrack_ros.inference.engine"),
        ("data/planted.py", "from qdtrack_ros.training import samplers"),
        ("resources.py", "import qdtrack_ros.ops.boxes"),
        ("training/planted.py", "import rclpy.node"),
        ("cli/planted.py", "import importlib\nimportlib.import_module('rclpy')"),
        ("inference/planted.py", "from qdtrack_ros.msg import Track"),
        ("inference/planted.py", "import lightning as L"),
        ("evaluation/planted.py", "from trackeval.metrics import HOTA"),
        ("data/planted.py", "from rosbags.rosbag2 import Reader"),
        ("node/planted.py", "import tensorrt"),
        ("tracking/planted.py", "import torch"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, code: str) -> None:
    target = tmp_path / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(code + "\n", encoding="utf-8")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("cli/fine.py", "from qdtrack_ros.node.main import main"),
        ("training/fine.py", "from qdtrack_ros.evaluation import metrics"),
        ("ops/fine.py", "from qdtrack_ros.resources import share_path\nfrom .boxes import iou"),
        ("node/fine.py", "import rclpy\nfrom qdtrack_ros.msg import Track"),
        ("__init__.py", "from qdtrack_ros.inference.tracker import Tracker"),
    ],
)
def test_what_the_layers_allow_passes(tmp_path: Path, file: str, code: str) -> None:
    target = tmp_path / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(code + "\n", encoding="utf-8")
    assert violations(tmp_path) == []


def test_a_second_user_of_a_single_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    for name in ("one", "two"):
        (tmp_path / "inference" / f"{name}.py").write_text("import tensorrt\n", encoding="utf-8")
    assert len(violations(tmp_path)) == 1
