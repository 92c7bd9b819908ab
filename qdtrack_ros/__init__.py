"""QDTrack for ROS 2: multi-object tracking by appearance.

`Tracker` (see `qdtrack_ros.inference.tracker`) is the Python API. It is loaded on first use, so that the tracking layer
alone can be imported with numpy only.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdtrack_ros.inference.tracker import Tracker

# The generated messages (`qdtrack_ros.msg`) are installed as a second folder of the same package name; this joins the
# two when the code runs from the source tree.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
__all__ = ["Tracker", "__version__"]


def __getattr__(name: str) -> object:
    """Load `Tracker` on first use: it needs torch, which takes seconds to import."""
    if name == "Tracker":
        from qdtrack_ros.inference.tracker import Tracker

        return Tracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
