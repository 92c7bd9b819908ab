"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

Golden = dict[str, npt.NDArray[np.generic]]
_GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden("ops/nms")`` reads the arrays of ``test/golden/ops/nms.npz``: numbers the reference gave."""

    def read(name: str) -> Golden:
        with np.load(_GOLDEN / f"{name.removesuffix('.npz')}.npz", allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return read
