"""Metadata for pip: the package without ROS, for training and evaluation. ROS installs use package.xml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The package's version, as qdtrack_ros/__init__.py has it."""
    code = (ROOT / "qdtrack_ros" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', code, re.MULTILINE)
    if found is None:
        raise RuntimeError("qdtrack_ros/__init__.py has no __version__ line")
    return found.group(1)


def shared_files() -> list[tuple[str, list[str]]]:
    """Files that go to <prefix>/share/qdtrack_ros, where a colcon build puts them too: (folder, files)."""
    folders: dict[str, list[str]] = {}
    for top in ("config", "launch", "msg", "weights"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT)
                folders.setdefault(f"share/qdtrack_ros/{relative.parent.as_posix()}", []).append(relative.as_posix())
    return sorted(folders.items())


ONNX = ["onnx", "onnxruntime"]
OPENVINO = ["onnx", "openvino"]  # the quickest engine on a CPU
TENSORRT = ["onnx", "tensorrt"]  # on the GPU's machine
TRAIN = ["lightning", "tensorboard"]
BAGS = ["rosbags>=0.11"]
WAYMO = ["pyarrow"]
CLUSTER = ["ray"]
VIDEO = ["av"]
EVAL = ["scipy", "jinja2", "matplotlib"]
TUNE = ["optuna"]
# To check metrics. It brings opencv-python, whose files are those of opencv-python-headless: one version for both.
TRACKEVAL = ["trackeval==1.3.*", "opencv-python<5"]

setup(
    name="qdtrack_ros",
    version=version(),
    description="QDTrack for ROS 2: multi-object tracking by quasi-dense appearance similarity",
    long_description=(ROOT / "README.md").read_text("utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    author="qdtrack_ros authors",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["qdtrack_ros", "qdtrack_ros.*"]),
    package_data={"qdtrack_ros": ["py.typed", "evaluation/report/*.jinja"]},
    data_files=shared_files(),
    install_requires=[
        "numpy",
        "opencv-python-headless<5",
        "pyyaml",
        "safetensors",
        "torch>=2.11",
        "torchvision",
        "tqdm",
    ],
    extras_require={
        "bags": BAGS,
        "cluster": CLUSTER,
        "eval": EVAL + BAGS,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "tensorrt": TENSORRT,
        "train": TRAIN,
        "trackeval": TRACKEVAL,
        "tune": EVAL + TUNE,
        "video": VIDEO,
        "waymo": WAYMO,
        "all": BAGS + CLUSTER + EVAL + ONNX + OPENVINO + TRACKEVAL + TRAIN + TUNE + VIDEO + WAYMO,
    },
    entry_points={"console_scripts": ["qdtrack = qdtrack_ros.cli.main:main"]},
    zip_safe=False,
)
