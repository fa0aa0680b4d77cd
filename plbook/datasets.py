"""The data of the book: scikit-learn's bundled digits, and random points on a sphere. Nothing is downloaded."""

from dataclasses import dataclass
from functools import cache
from math import sqrt

import torch
from sklearn.datasets import load_digits
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """`inputs` of shape (n, d), each of squared norm d; `targets` of shape (n,) or (n, classes); `labels` of shape (n,)."""

    inputs: Tensor
    targets: Tensor
    labels: Tensor


def digits(num_inputs=1797, *, targets="parity"):
    """The first `num_inputs` of scikit-learn's 1,797 handwritten digits, d = 64 pixels.

    The mean image of all 1,797 is subtracted and each input scaled to squared norm 64. Raw pixels share a large common
    part, which makes the tangent kernel badly conditioned.

    Args:
        targets: "parity" gives +1 for even digits and -1 for odd ones, shape (n,); "one-hot" gives shape (n, 10).

    Raises:
        ValueError: for a number outside 1 to 1797 or an unknown kind of targets.
    """
    pixels, labels = _digits()
    if num_inputs not in range(1, len(pixels) + 1):
        raise ValueError(f"num_inputs must be a whole number from 1 to {len(pixels)}, got {num_inputs}.")
    inputs = on_sphere(pixels - pixels.mean(dim=0))[:num_inputs]
    labels = labels[:num_inputs].clone()  # not a view: the cache is shared
    if targets == "parity":
        return Dataset(inputs, 1.0 - 2.0 * (labels % 2).double(), labels)
    if targets == "one-hot":
        return Dataset(inputs, torch.nn.functional.one_hot(labels, 10).double(), labels)
    raise ValueError(f'targets must be "parity" or "one-hot", got {targets!r}.')


def sphere(num_inputs, dimension, *, seed=0):
    """Random points, uniform on the sphere of squared radius `dimension`, with random targets +1 and -1."""
    if num_inputs < 1 or dimension < 1:
        raise ValueError(f"num_inputs and dimension must be at least 1, got {num_inputs} and {dimension}.")
    generator = torch.Generator().manual_seed(seed)
    inputs = on_sphere(torch.randn(num_inputs, dimension, dtype=torch.float64, generator=generator))
    labels = torch.randint(2, (num_inputs,), generator=generator)
    return Dataset(inputs, 1.0 - 2.0 * labels.double(), labels)


def on_sphere(inputs):
    """Each row scaled to squared norm = its dimension, so that entries are of size one whatever the dimension."""
    return inputs * (sqrt(inputs.shape[1]) / inputs.norm(dim=1, keepdim=True))


@cache
def _digits():
    data = load_digits()
    return torch.as_tensor(data.data, dtype=torch.float64), torch.as_tensor(data.target, dtype=torch.int64)
