"""The package is described in several places; here they agree."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()


def dependencies() -> set[str]:
    """Every key that package.xml names."""
    return {str(node.text) for node in MANIFEST if node.tag.endswith("depend")}


def setup_py(question: str) -> str:
    """What setup.py answers to ``--version``, ``--name`` and the like."""
    run = subprocess.run(
        [sys.executable, "setup.py", "--quiet", question], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return run.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(("question", "tag"), [("--version", "version"), ("--name", "name"), ("--license", "license")])
def test_setup_py_and_package_xml_agree(question: str, tag: str) -> None:
    assert setup_py(question) == MANIFEST.findtext(tag)


def test_the_changelog_has_this_version() -> None:
    assert f"## {MANIFEST.findtext('version')}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_message_is_built_and_shipped() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert set(re.findall(r'"(msg/\w+\.msg)"', cmake)) == {f"msg/{path.name}" for path in ROOT.glob("msg/*.msg")}


def test_messages_use_declared_packages_only() -> None:
    used = set()
    for path in ROOT.glob("msg/*.msg"):
        used |= set(re.findall(r"^(\w+)/\w+(?:\[\w*\])? +\w+", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert used <= dependencies()


def test_cmake_finds_declared_packages_only() -> None:
    found = set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")))
    assert found <= dependencies()


def test_the_node_imports_declared_ros_packages_only() -> None:
    statement = re.compile(r"^\s*(?:from|import) (\w+_(?:msgs|srvs|interfaces)|rclpy)\b", re.MULTILINE)
    used = set()
    for path in (ROOT / "qdtrack_ros").rglob("*.py"):
        used |= set(statement.findall(path.read_text(encoding="utf-8")))
    assert "rclpy" in used
    assert used <= dependencies()


def test_every_path_the_environment_installs_from_exists() -> None:
    script = (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    for name in re.findall(r"scripts/[\w.-]+", script):
        assert (ROOT / name).is_file(), name
