"""Writes what is derived from the parameter specification: the default parameter file and the tables for readers.

Run ``python -m qdtrack_ros.node.parameter_docs`` in the source tree after each change of the specification.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from qdtrack_ros.node.parameters import RUNTIME, STARTUP, ParameterSpec, ParameterSpecs, Value, load_specs

DEFAULTS_FILE = "config/tracker_node.yaml"
TABLE_FILE = "docs/parameters.md"
README_FILE = "README.md"
README_MARKS = ("<!-- parameters: made by qdtrack_ros.node.parameter_docs -->", "<!-- end of parameters -->")
_CHANGE_TEXT = {STARTUP: "at start", RUNTIME: "any time"}


def defaults_file(specs: ParameterSpecs) -> str:
    """Text of a ROS 2 parameter file with every parameter at its default; those of the preset are commented out."""
    tree: dict[str, list[ParameterSpec]] = {}
    for spec in specs.node.values():
        tree.setdefault(spec.name.rpartition(".")[0], []).append(spec)
    lines = [
        "# Parameters of tracker_node at their defaults. Made from tracker_node.parameters.yaml: change that instead.",
        "# A copy of this file is the place to start from for your own robot:",
        "#   ros2 run qdtrack_ros tracker_node --ros-args --params-file my_tracker.yaml",
        "/**:",
        "  ros__parameters:",
    ]
    for group, members in tree.items():
        indent = "    "
        if group:
            mark = "" if any(member.default is not None for member in members) else "# "
            lines += ["", f"{indent}{mark}{group}:"]
            indent += "  "
        for spec in members:
            lines += _entry(spec, indent, spec.name.rpartition(".")[2], spec.name)
    cameras = specs.node["cameras"].default
    assert isinstance(cameras, list)
    for camera in cameras:
        lines += ["", f"    {camera}:"]
        for spec in specs.camera.values():
            lines += _entry(spec, "      ", spec.name, spec.name)
    return "\n".join(lines) + "\n"


def markdown_table(specs: ParameterSpecs) -> str:
    """The parameters as a page in Markdown."""
    lines = [
        "# Parameters of tracker_node",
        "",
        "Made from `config/tracker_node.parameters.yaml`. *Changes*: when the parameter may change. A value that is",
        "not allowed is refused with the reason. *preset*: taken from the preset when the node is configured; a",
        "threshold that the preset's tracker does not have (`tao` has another tracker) stays unset and is refused.",
        "",
        "| parameter | type | default | allowed | changes | meaning |",
        "|---|---|---|---|---|---|",
        *(_row(spec, spec.name) for spec in specs.node.values()),
        *(_row(spec, f"NAME.{spec.name}") for spec in specs.camera.values()),
        "",
        "`NAME` is the name of a camera from the parameter `cameras`.",
    ]
    return "\n".join(lines) + "\n"


def readme_with_table(readme: str, specs: ParameterSpecs) -> str:
    """The README with the short table between its two marks made anew.

    Raises:
        ValueError: the marks are not there.
    """
    begin, end = README_MARKS
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise ValueError(f"{README_FILE} must hold {begin!r} and {end!r} once each")
    head, tail = readme.partition(begin)[0], readme.partition(end)[2]
    rows = [(spec, spec.name) for spec in specs.node.values()]
    rows += [(spec, f"NAME.{spec.name}") for spec in specs.camera.values()]
    table = ["| parameter | default | meaning |", "|---|---|---|"]
    table += [f"| `{name}` | {_default(spec)} | {' '.join(spec.description.split())} |" for spec, name in rows]
    return "\n".join([head + begin, "", *table, "", end + tail])


def derived_files(root: Path, specs: ParameterSpecs) -> dict[str, str]:
    """Name and text of every file that is derived from the specification, below the source tree ``root``."""
    return {
        DEFAULTS_FILE: defaults_file(specs),
        TABLE_FILE: markdown_table(specs),
        README_FILE: readme_with_table((root / README_FILE).read_text(encoding="utf-8"), specs),
    }


def main() -> int:
    """Write the derived files into the source tree."""
    root = Path(__file__).resolve().parents[2]
    for name, text in derived_files(root, load_specs()).items():
        (root / name).write_text(text, encoding="utf-8")
        print(f"wrote {root / name}")
    return 0


def _entry(spec: ParameterSpec, indent: str, key: str, name: str) -> list[str]:
    comment = f"{indent}# {' '.join(spec.description.split())}"
    if spec.default is None:
        return [comment, f"{indent}# {key}: (preset)"]
    return [comment, f"{indent}{key}: {_literal(spec.default)}"]


def _literal(value: Value) -> str:
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _default(spec: ParameterSpec) -> str:
    return "*preset*" if spec.default is None else f"`{_literal(spec.default)}`"


def _row(spec: ParameterSpec, name: str) -> str:
    allowed = ", ".join(f"`{choice}`" for choice in spec.one_of) if spec.one_of else spec.allowed
    if spec.pattern:
        allowed = f"names that match `{spec.pattern}`"
    changes = _CHANGE_TEXT.get(spec.change, "while unconfigured")
    cells = (f"`{name}`", spec.type, _default(spec), allowed, changes, " ".join(spec.description.split()))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
