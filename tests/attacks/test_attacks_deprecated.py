"""Former names still work, say what to use, and find what their successors find."""

import pytest
import torch

import trueboundary as tb

X, Y = torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 0, 0])


def plane(points: torch.Tensor) -> torch.Tensor:
    return points[:, 0] - 2.0


def test_the_attack_off_the_manifold_is_the_search_for_nearest_errors() -> None:
    with pytest.warns(DeprecationWarning, match="use NearestError"):
        attack = tb.OffManifoldAttack()
    found = attack(plane, X, Y)
    assert torch.allclose(found.distance, torch.full((3,), 2.0, dtype=torch.float64), rtol=1e-6)
    with pytest.warns(DeprecationWarning, match="use NearestError"):
        first = tb.OffManifoldAttack(step_size=0.5, refine_steps=0)(plane, X, Y)
    assert torch.allclose(first.distance, found.distance, rtol=1e-6)


def test_refining_the_manifold_attack_is_the_search_for_nearest_errors() -> None:
    x = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    with pytest.warns(DeprecationWarning, match="refine_steps is deprecated"):
        attack = tb.ManifoldAttack(refine_steps=20)
    refined = attack(lambda points: points[:, 0] - 0.6, x, Y[:1])
    nearest = tb.NearestError()(lambda points: points[:, 0] - 0.6, x, Y[:1], domain=tb.Sphere())
    assert refined.distance.item() == pytest.approx(nearest.distance.item(), rel=1e-9)


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="refine_steps"):
        tb.ManifoldAttack(refine_steps=-1)
    with pytest.raises(ValueError, match="refine_steps"):
        tb.OffManifoldAttack(refine_steps=-1)
