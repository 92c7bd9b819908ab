"""Where the files that come with the package lie: presets, shipped weights, profiles, message definitions."""

from __future__ import annotations

from pathlib import Path


def share_path(relative: str) -> Path:
    """Path of a file that comes with the package.

    A source tree is looked at first, then ``share/qdtrack_ros`` of the prefix that the package is installed in: the
    same place after ``colcon build`` and after ``pip install``.

    Args:
        relative: path below the repository's root, e.g. ``config/presets/pedestrian.yaml``.

    Raises:
        FileNotFoundError: it is in neither place; the message names both.
    """
    package = Path(__file__).resolve().parent
    source = package.parent / relative
    if source.exists():
        return source
    tried = [source]
    for prefix in Path(__file__).absolute().parents:
        candidate = prefix / "share" / "qdtrack_ros" / relative
        if candidate.exists():
            return candidate
        if (prefix / "share").is_dir():
            tried.append(candidate)
    places = ", ".join(str(p) for p in tried)
    raise FileNotFoundError(f"{relative} does not come with this installation of qdtrack_ros; looked at {places}")
