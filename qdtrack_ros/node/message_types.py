"""Message classes by their name."""

from __future__ import annotations

import importlib
from typing import Any


def message_class(type_name: str) -> Any:
    """The class of a message type such as ``sensor_msgs/msg/Image``.

    Raises:
        LookupError: there is no such type in this environment; says which package is missing.
    """
    package, _, name = type_name.rpartition("/")
    try:
        return getattr(importlib.import_module(package.replace("/", ".")), name)
    except (ImportError, AttributeError, ValueError) as error:
        remedy = f"install or source the package {package.partition('/')[0] or type_name!r}"
        raise LookupError(f"message type {type_name!r} is not available here ({error}); {remedy}") from error
