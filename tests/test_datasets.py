import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

import plbook as pl
from plbook import datasets

RAW = load_digits()


def test_digits_are_centered_by_the_mean_of_all_and_scaled():
    """By hand, in numpy: direction from the mean image, squared norm 64."""
    directions = RAW.data - RAW.data.sum(axis=0) / 1797
    expected = np.stack([8 * row / np.sqrt((row**2).sum()) for row in directions])
    assert_close(datasets.digits().inputs, torch.as_tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("data, dimension", [(datasets.digits(), 64), (datasets.sphere(50, 7), 7), (datasets.sphere(3, 1), 1)])
def test_every_input_has_squared_norm_equal_to_its_dimension(data, dimension):
    assert data.inputs.dtype == torch.float64 and data.inputs.shape[1] == dimension
    # Rounding of a sum of squares.
    assert_close(data.inputs.square().sum(dim=1), torch.full((len(data.inputs),), float(dimension)).double(), rtol=1e-13, atol=0)


def test_parity_and_one_hot_targets_follow_from_the_labels():
    labels = RAW.target
    parity, one_hot = datasets.digits(), datasets.digits(targets="one-hot")
    assert parity.labels.tolist() == one_hot.labels.tolist() == labels.tolist()
    assert parity.targets.tolist() == [1.0 if label % 2 == 0 else -1.0 for label in labels]
    assert one_hot.targets.shape == (1797, 10) and parity.targets.dtype == one_hot.targets.dtype == torch.float64
    assert (one_hot.targets.sum(dim=1) == 1).all() and one_hot.targets.argmax(dim=1).tolist() == labels.tolist()


@pytest.mark.parametrize("kind", ["parity", "one-hot"])
def test_fewer_digits_are_the_first_ones_of_all(kind):
    few, all_of_them = datasets.digits(25, targets=kind), datasets.digits(targets=kind)
    for name in ("inputs", "targets", "labels"):
        assert torch.equal(getattr(few, name), getattr(all_of_them, name)[:25])


def test_a_caller_cannot_spoil_the_next_callers_digits():
    data = datasets.digits(5)
    data.inputs.zero_(), data.labels.zero_()
    assert datasets.digits(5).inputs.abs().sum() > 0 and datasets.digits(5).labels.tolist() == RAW.target[:5].tolist()


def test_no_two_of_the_first_200_are_equal_or_opposite_so_the_kernel_is_not_singular():
    data = datasets.digits(200)
    cosines = data.inputs @ data.inputs.T / 64 - torch.eye(200, dtype=torch.float64)
    assert cosines.abs().max() < 0.999
    system = pl.NetworkSystem(pl.MLP(64, [200]), data.inputs, data.targets)
    assert pl.kernel_spectrum(system).resolved
    # It can tell: with one digit twice, or with its negative and no bias in an odd network, it is singular.
    for twin in (data.inputs[:1], -data.inputs[:1]):
        doubled = pl.NetworkSystem(pl.MLP(64, [200]), torch.vstack([data.inputs, twin]), torch.ones(201))
        assert not pl.kernel_spectrum(doubled).resolved


def test_centering_makes_the_kernel_better_conditioned():
    data = datasets.digits(60)
    raw = datasets.on_sphere(torch.as_tensor(RAW.data[:60]))
    centered, plain = (
        pl.kernel_spectrum(pl.NetworkSystem(pl.MLP(64, [300]), inputs, data.targets)).condition_number
        for inputs in (data.inputs, raw)
    )
    assert plain > 3 * centered


def test_sphere_points_are_uniform_and_follow_the_seed():
    data = datasets.sphere(4000, 3)
    # Uniform: mean 0 and second moments 1 in every direction, to three standard errors.
    assert data.inputs.mean(dim=0).abs().max() < 3 / 4000**0.5
    assert (data.inputs.T @ data.inputs / 4000 - torch.eye(3, dtype=torch.float64)).abs().max() < 3 / 4000**0.5
    assert set(data.targets.tolist()) == {1.0, -1.0} and abs(data.targets.mean()) < 3 / 4000**0.5
    assert torch.equal(data.targets, 1.0 - 2.0 * data.labels)
    again, other = datasets.sphere(4000, 3), datasets.sphere(4000, 3, seed=1)
    assert torch.equal(again.inputs, data.inputs) and torch.equal(again.targets, data.targets)
    assert not torch.equal(other.inputs, data.inputs)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: datasets.digits(0), ["num_inputs", "1797", "0"]),
        (lambda: datasets.digits(1798), ["num_inputs", "1797", "1798"]),
        (lambda: datasets.digits(2.5), ["num_inputs", "1797", "2.5"]),
        (lambda: datasets.digits(5, targets="labels"), ["parity", "one-hot", "'labels'"]),
        (lambda: datasets.sphere(0, 3), ["at least 1", "0 and 3"]),
        (lambda: datasets.sphere(3, 0), ["at least 1", "3 and 0"]),
    ],
)
def test_bad_options_are_refused(build, words):
    with pytest.raises(ValueError) as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)
