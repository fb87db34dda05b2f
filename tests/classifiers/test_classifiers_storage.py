"""Classifiers as plain data."""

import json

import pytest
import torch
from safetensors.numpy import load, save

from trueboundary.classifiers import (
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    as_classifier,
    from_arrays,
    register,
    to_arrays,
)

G = torch.Generator().manual_seed(0)
STORABLE = [
    SphereBayes(4, 1.7),
    TruncatedSum(4, 2, 0.3),
    QuadraticNetwork(4, 6, generator=G),
    QuadraticNetwork.perfect(4, 8, dtype=torch.float64),
    ReLUNetwork(4, 6, 2, generator=G),
    ReLUNetwork(4, 6, 1, batch_norm=None, generator=G, dtype=torch.float64),
    ReLUNetwork(4, 6, 1, batch_norm="after-activation", generator=G),
]


@pytest.mark.parametrize("model", STORABLE, ids=lambda model: type(model).__name__)
def test_round_trip_is_exact(model, generator):
    dtype = next(model.parameters()).dtype
    x = torch.randn(30, 4, generator=generator, dtype=dtype)
    model.train().margin(x)  # moves the running averages of batch normalisation
    model.eval()
    spec, arrays = to_arrays(model)
    again = from_arrays(json.loads(json.dumps(spec)), load(save(arrays)))
    assert type(again) is type(model)
    assert not again.training
    assert torch.equal(again.margin(x), model.margin(x))
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


def test_stored_arrays_do_not_follow_the_model():
    model = QuadraticNetwork(4, 6, generator=torch.Generator().manual_seed(0))
    _, arrays = to_arrays(model)
    before = arrays["hidden_weight"].copy()
    with torch.no_grad():
        model.hidden_weight.zero_()
    assert (arrays["hidden_weight"] == before).all()


def test_what_cannot_be_stored_is_refused():
    with pytest.raises(TypeError, match="cannot store a CallableClassifier, only the registered"):
        to_arrays(as_classifier(lambda x: x[:, 0]))


def test_damaged_data_are_refused():
    spec, arrays = to_arrays(STORABLE[2])
    with pytest.raises(ValueError, match="'Unknown' is missing or unknown"):
        from_arrays({**spec, "class": "Unknown"}, arrays)
    with pytest.raises(ValueError, match="'dtype' is missing or unknown"):
        from_arrays({"class": spec["class"]}, arrays)
    with pytest.raises(ValueError, match="the arrays do not fit a QuadraticNetwork"):
        from_arrays(spec, {**arrays, "hidden_weight": arrays["hidden_weight"][1:]})
    del arrays["bias"]
    with pytest.raises(ValueError, match="the arrays do not fit a QuadraticNetwork"):
        from_arrays(spec, arrays)


def test_a_name_is_registered_once():
    assert register(SphereBayes) is SphereBayes
    with pytest.raises(ValueError, match="another classifier named 'SphereBayes'"):
        register(type("SphereBayes", (SphereBayes,), {}))
