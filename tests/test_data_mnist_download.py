"""MNIST itself, over the network."""

from pathlib import Path

import numpy as np
import pytest

from trueboundary.data import load_mnist


@pytest.mark.slow
def test_mnist_is_obtained_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUEBOUNDARY_MNIST", raising=False)
    try:
        data = load_mnist(tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    counts = np.bincount(data.part("train").labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.part("test").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.images.shape == (70_000, 28, 28, 1)
    # The mean pixel that everybody normalises by.
    assert abs(data.part("train").images.mean() / 255 - 0.1307) < 5e-5
