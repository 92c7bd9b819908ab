"""`qdtrack doctor`: what is installed, what works, and the line that installs what is missing."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        name: what was looked at.
        works: whether it does.
        text: what was found.
        remedy: the line that installs or repairs it; empty when it works.
        needed: whether tracking on this machine needs it.
    """

    name: str
    works: bool
    text: str
    remedy: str = ""
    needed: bool = False


class Package(NamedTuple):
    """A Python package to look for: the module to import, its distributions, what it serves, how to install it."""

    module: str
    distributions: tuple[str, ...]
    purpose: str
    remedy: str
    needed: bool = False


PACKAGES = (
    Package("numpy", ("numpy",), "", "pip install numpy", True),
    Package("torchvision", ("torchvision",), "", "pip install torchvision", True),
    Package("cv2", ("opencv-python-headless", "opencv-python"), "", "pip install 'opencv-python-headless<5'", True),
    Package("safetensors", ("safetensors",), "", "pip install safetensors", True),
    Package("av", ("av",), "H.264 video", "pip install av", False),
    Package("rosbags", ("rosbags",), "bags", "pip install 'rosbags>=0.11'"),
    Package("pyarrow", ("pyarrow",), "Waymo's files", "pip install pyarrow"),
    Package("ray", ("ray",), "a cluster for many sources", "pip install ray"),
    Package("lightning", ("lightning",), "training", "pip install lightning"),
    Package("tensorboard", ("tensorboard",), "training", "pip install tensorboard"),
    Package("scipy", ("scipy",), "metrics", "pip install scipy"),
    Package("trackeval", ("trackeval",), "checking metrics", "pip install trackeval==1.3.0"),
    Package("jinja2", ("jinja2",), "evaluation reports", "pip install jinja2"),
    Package("matplotlib", ("matplotlib",), "evaluation reports", "pip install matplotlib"),
    Package("optuna", ("optuna",), "qdtrack tune", "pip install optuna"),
)
# Looked up, not imported: importing them would take memory on the GPU.
ENGINES = (
    Package("openvino", ("openvino",), "the quickest engine on a CPU", "pip install openvino onnx"),
    Package("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "ONNX graphs", "pip install onnxruntime"),
    Package("onnx", ("onnx",), "exports, and what these engines read", "pip install onnx"),
    Package(
        "tensorrt",
        ("tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13-bindings"),
        "engines for NVIDIA's GPUs",
        "pip install tensorrt",
    ),
)
_ROS_REMEDY = "source a ROS 2 install (source /opt/ros/DISTRO/setup.bash), or run `make setup`"
_MESSAGES_REMEDY = "colcon build --packages-select qdtrack_ros, or run `make setup`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has none of its own."""
    parser.epilog = "exit codes: 0 tracking works on this machine; 1 something that it needs is missing"


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    findings = []
    for title, section in SECTIONS.items():
        print(f"{title}:")
        for finding in section():
            findings.append(finding)
            mark = "ok     " if finding.works else "MISSING" if finding.needed else "missing"
            print(f"  {mark}  {finding.name:14} {finding.text}")
            if finding.remedy and not finding.works:
                print(f"           {'':14} -> {finding.remedy}")
    missing = [finding.name for finding in findings if finding.needed and not finding.works]
    print()
    if missing:
        print(f"tracking does not work yet: {', '.join(missing)}")
        return 1
    print("tracking works on this machine")
    return 0


def basics() -> Iterator[Finding]:
    """Python and what tracking needs."""
    version = platform.python_version()
    enough = sys.version_info >= (3, 10)
    yield Finding("python", enough, f"{version} {sys.executable}", "install Python 3.10 or later", True)
    yield torch_finding()
    for package in PACKAGES:
        yield package_finding(package)


def torch_finding() -> Finding:
    """PyTorch, and the GPUs it sees."""
    try:
        import torch
    except Exception as error:  # a broken build raises whatever its libraries do
        return Finding("torch", False, _reason(error), "pip install 'torch>=2.11' torchvision", True)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        device = f"CUDA {torch.version.cuda}: {', '.join(names)}"
    else:
        device = f"no CUDA device; runs on the CPU with {torch.get_num_threads()} threads"
    return Finding("torch", True, f"{torch.__version__}, {device}", needed=True)


def engines() -> Iterator[Finding]:
    """Other engines."""
    for package in ENGINES:
        # TensorRT and TensorRT for RTX are two products, as onnxruntime and onnxruntime-gpu are two builds.
        found = [f"{name} {version}" for name in package.distributions if (version := _distribution(name))]
        text = f"{', '.join(found) or 'not installed'} ({package.purpose})"
        yield Finding(package.module, bool(found), text, package.remedy)


def ros() -> Iterator[Finding]:
    """The ROS 2 that this Python sees, and how its middleware is set up."""
    try:
        from qdtrack_ros.node.environment import middleware

        name = middleware()
    except Exception as error:
        yield Finding("rclpy", False, _reason(error), _ROS_REMEDY)
        return
    yield Finding("rclpy", True, _distribution("rclpy") or f"of ROS 2 {os.environ.get('ROS_DISTRO', '')}".strip())
    yield Finding("middleware", True, name)
    if name.startswith("rmw_fastrtps"):
        yield profile_finding()
    for module in ("vision_msgs.msg", "qdtrack_ros.msg"):
        yield messages_finding(module)
    domain, discovery = (os.environ.get(key, "") for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"))
    yield Finding("graph", True, f"domain {domain or '0'}, discovery range {discovery or 'SUBNET'}")


def profile_finding() -> Finding:
    """Whether Fast DDS will carry large images."""
    from qdtrack_ros.resources import share_path

    key = "FASTDDS_DEFAULT_PROFILES_FILE"
    path = os.environ.get(key, "")
    if path and os.path.isfile(path):
        return Finding("Fast DDS", True, f"profile {path}")
    found = f"{key} names {path}, which does not exist" if path else f"{key} is not set: most large images get lost"
    try:
        ours = share_path("config/fastdds_profile.xml")
    except FileNotFoundError as error:
        return Finding("Fast DDS", False, found, str(error))
    return Finding("Fast DDS", False, found, f"export {key}={ours}")


def messages_finding(module: str) -> Finding:
    """Whether a message package is built and its type support loads."""
    try:
        classes = vars(importlib.import_module(module))
        name = "TrackArray" if "TrackArray" in classes else "Detection2DArray"
        classes[name].__class__.__import_type_support__()
    except Exception as error:
        return Finding(module.partition(".")[0], False, f"messages: {_reason(error)}", _MESSAGES_REMEDY)
    return Finding(module.partition(".")[0], True, "messages are built")


def presets() -> Iterator[Finding]:
    """The presets that ship, and their weights."""
    from qdtrack_ros.inference.presets import preset_names

    for name in preset_names():
        yield preset_finding(name)


def preset_finding(name: str) -> Finding:
    """Whether a preset and its weights can be loaded; only those of `pedestrian` ship."""
    from qdtrack_ros.inference.engine import create_engine, opened
    from qdtrack_ros.inference.presets import load_preset

    needed = name == "pedestrian"
    try:
        preset = load_preset(name)
        if not preset.weights:
            text = "no weights of its own; give a file with --weights, see `qdtrack weights list`"
            return Finding(name, True, text, needed=needed)
        with opened(create_engine(preset, device="cpu")) as engine:
            engine.warmup()
            return Finding(name, True, f"{preset.weights}, model {engine.model_id}", needed=needed)
    except (ValueError, RuntimeError, OSError) as error:
        remedy = f"put the file in its place, or track with --preset {name} --weights FILE"
        return Finding(name, False, _reason(error), remedy, needed)


def package_finding(package: Package) -> Finding:
    """Whether a package can be imported."""
    try:
        importlib.import_module(package.module)
    except Exception as error:
        text = _reason(error) + (f" ({package.purpose})" if package.purpose else "")
        return Finding(package.module, False, text, package.remedy, package.needed)
    purpose = f" ({package.purpose})" if package.purpose else ""
    return Finding(package.module, True, f"{_version(package)}{purpose}", needed=package.needed)


def _version(package: Package) -> str:
    return next((version for name in package.distributions if (version := _distribution(name))), "")


def _distribution(name: str) -> str:
    for candidate in (name, f"ros-kilted-{name}"):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


SECTIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "basics": basics,
    "other engines": engines,
    "ROS 2": ros,
    "presets": presets,
}
