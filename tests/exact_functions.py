"""Functions that run on torch tensors and, in many digits, on numpy arrays of mpmath numbers: the oracle of enclosures.

Each takes a namespace, TORCH or EXACT, and a vector.
"""

from types import SimpleNamespace

import mpmath
import numpy as np
import torch
from near_duplicates import Draw
from torch import nn

DIGITS = 60
NAMES = "atan cos cosh erf exp expm1 log log1p sin sinh sqrt tanh".split()



def objects(values):
    """A float64 tensor, or nested lists of floats, as an array of exact numbers."""
    values = values.tolist() if isinstance(values, torch.Tensor) else values
    return np.vectorize(mpmath.mpf, otypes=[object])(np.array(values, dtype=np.float64))


def exact_convolution(image, kernel):
    """Of one channel, without padding."""
    rows, columns = (a - b + 1 for a, b in zip(image.shape, kernel.shape))
    height, width = kernel.shape
    entries = [(image[i : i + height, j : j + width] * kernel).sum() for i in range(rows) for j in range(columns)]
    return np.array(entries, dtype=object).reshape(rows, columns)


def exact_transposed_convolution(image, kernel):
    height, width = kernel.shape
    result = objects(np.zeros([a + b - 1 for a, b in zip(image.shape, kernel.shape)]))
    for i, j in np.ndindex(image.shape):
        result[i : i + height, j : j + width] += image[i, j] * kernel
    return result


def exact_normalization(x):
    centered = x - x.sum() / len(x)
    return centered / mpmath.sqrt((centered**2).sum() / len(x) + mpmath.mpf(1e-5))


def exact_log_softmax(x):
    return x - mpmath.log(EXACT.exp(x).sum())


TORCH = SimpleNamespace(
    array=lambda values: torch.as_tensor(values, dtype=torch.float64),
    cat=torch.cat,
    flip=lambda x: x.flip(0),
    sigmoid=torch.sigmoid,
    stack=torch.stack,
    convolution=lambda image, kernel: nn.functional.conv2d(image[None, None], kernel[None, None])[0, 0],
    transposed_convolution=lambda image, kernel: nn.functional.conv_transpose2d(image[None, None], kernel[None, None])[0, 0],
    pool=lambda image: nn.functional.avg_pool2d(image[None, None], 2, 1)[0, 0],
    global_pool=lambda image: nn.functional.adaptive_avg_pool2d(image[None], 1).reshape(1),
    normalization=lambda x: nn.functional.layer_norm(x, x.shape),
    group_normalization=lambda x: nn.functional.group_norm(x[None], 1)[0],
    batch_normalization=lambda x, mean, var: nn.functional.batch_norm(x[None], mean, var)[0],
    log_softmax=lambda x: x.log_softmax(0),
    log_sum=lambda x: x.logsumexp(0),
    norm=torch.linalg.vector_norm,
    running=lambda x: x.cumsum(0),
    softmax=lambda x: x.softmax(0),
    attention=lambda q, k, v: (q @ k.T).softmax(1) @ v,
    **{name: getattr(torch, name) for name in NAMES},
)
EXACT = SimpleNamespace(
    array=objects,
    cat=np.concatenate,
    flip=lambda x: x[::-1],
    sigmoid=np.frompyfunc(lambda x: 1 / (1 + mpmath.exp(-x)), 1, 1),
    stack=np.stack,
    convolution=exact_convolution,
    transposed_convolution=exact_transposed_convolution,
    pool=lambda image: exact_convolution(image, objects(np.full((2, 2), 0.25))),
    global_pool=lambda image: np.array([image.sum() / image.size], dtype=object),
    normalization=exact_normalization,
    group_normalization=exact_normalization,
    batch_normalization=lambda x, mean, var: (x - mean) / EXACT.sqrt(var + mpmath.mpf(1e-5)),
    log_softmax=exact_log_softmax,
    log_sum=lambda x: mpmath.log(EXACT.exp(x).sum()),
    norm=lambda x: mpmath.sqrt((x**2).sum()),
    running=np.cumsum,
    softmax=lambda x: EXACT.exp(exact_log_softmax(x)),
    attention=lambda q, k, v: np.stack([EXACT.exp(exact_log_softmax(row)) for row in q @ k.T]) @ v,
    **{name: np.frompyfunc(getattr(mpmath, name), 1, 1) for name in NAMES},
)
MATRIX = [[0.3, -1.7, 2.2, 0.1], [1.1, 0.4, -0.6, 3.0], [-2.0, 0.7, 0.9, -0.2]]
IMAGE = [[0.2, -1.3, 0.8, 1.0], [2.1, 0.5, -0.7, 0.3], [-1.1, 0.6, 0.9, -0.4], [0.1, 1.7, -0.2, 0.6]]

# Whole functions of 4 numbers; the first group makes sense at every scale.
POLYNOMIALS = {
    "linear": lambda xp, w: xp.array(MATRIX) @ w,
    "products": lambda xp, w: w[:3] * w[1:] - xp.flip(w)[1:] ** 2,
    "powers": lambda xp, w: w**3 / 3 - w**5 * 0.1 + 2 * w,
    "quadratic": lambda xp, w: (xp.array(MATRIX) @ w) ** 2 + (w * w).sum(),
    "square and one": lambda xp, w: w**2 + 1,
    "differences": lambda xp, w: xp.stack([(w[0] + w[1]) - w[0], (w[2] - w[3]) - w[2], w[0] ** 2 - w[1] ** 2]),
    "cancelling": lambda xp, w: (1 + w) ** 3 - (1 + 3 * w + 3 * w**2 + w**3),
}
SMOOTH = {
    "sines": lambda xp, w: xp.sin(xp.array(MATRIX) @ w) + 2 * xp.cos(w[:3]),
    "gaussians": lambda xp, w: xp.exp(-(w**2)) - 0.5,
    "logarithms": lambda xp, w: xp.log(w**2 + 0.1) - xp.log1p(w**2),
    "sigmoids": lambda xp, w: xp.tanh(w) * xp.sigmoid(3 * w) + xp.erf(w),
    "fractions": lambda xp, w: w / (1 + w**2) - 1 / (3 + xp.sin(w)),
    "roots": lambda xp, w: xp.sqrt(w**2 + 2) - (w * w).sum() ** 0.5,
    "hyperbolic": lambda xp, w: xp.sinh(w) - xp.cosh(w) + xp.atan(w) + xp.expm1(w / 2),
    "negative powers": lambda xp, w: (w**2 + 1) ** -3 + (w**2 + 1) ** -0.5,
    "norms": lambda xp, w: xp.norm(w) * xp.array([1.0, 2.0]) + xp.norm(xp.sin(w)),
    "running sums": lambda xp, w: xp.running(xp.sin(w) * w),
    "shares": lambda xp, w: xp.exp(w) / xp.exp(w).sum(),
    "network": lambda xp, w: xp.tanh(xp.array(MATRIX) @ xp.tanh(w * 0.7)) @ xp.array([[1.0, 0.5], [-0.3, 2.0], [0.2, -1.0]]),
}
LAYERS = {
    "convolutions": lambda xp, w: xp.convolution(
        xp.tanh(xp.convolution(xp.array(IMAGE), w.reshape(2, 2))), w.reshape(2, 2) * 0.3
    ).reshape(-1),
    "transposed": lambda xp, w: xp.transposed_convolution(xp.array(IMAGE[:2]), xp.sin(w.reshape(2, 2))).reshape(-1),
    "pools": lambda xp, w: xp.cat([xp.pool(xp.tanh(w * xp.array(IMAGE)))[0], xp.global_pool(xp.exp(w) * xp.array(IMAGE))]),
    "layer norm": lambda xp, w: xp.normalization(xp.array(MATRIX) @ w) * xp.array([1.5, -0.3, 2.0]) + w[0],
    "group norm": lambda xp, w: xp.group_normalization(xp.tanh(w)) * w[1],
    "batch norm": lambda xp, w: xp.batch_normalization(w * w, xp.array([0.1, 0.2, 0.3, 0.4]), xp.array([1.0, 2.0, 0.5, 1e-3])),
    "softmax": lambda xp, w: xp.softmax(w * 3) + xp.log_softmax(w) * xp.log_sum(2 * w),
    "attention": lambda xp, w: xp.attention(
        w.reshape(2, 2), xp.sin(w.reshape(2, 2)), xp.array([[1.0, -0.2], [0.3, 2.0]])
    ).reshape(-1),
}
FUNCTIONS = POLYNOMIALS | SMOOTH | LAYERS


def exact(function, w):
    """A function's values at float64 numbers in 60 digits, as an array."""
    with mpmath.workdps(DIGITS):
        return np.array(function(EXACT, objects(w)), dtype=object)


def exact_jacobian(function, w):
    """The derivatives by central differences in so many digits that their error does not count."""
    with mpmath.workdps(240):
        point, columns = objects(w), []
        for k in range(len(point)):
            step = mpmath.mpf(10) ** -70 * max(1, abs(point[k]))
            ends = []
            for moved in (point[k] + step, point[k] - step):
                at = point.copy()
                at[k] = moved
                ends.append(np.array(function(EXACT, at), dtype=object))
            columns.append((ends[0] - ends[1]) / (2 * step))
        return np.stack(columns, -1)


def outside(enclosure, truth):
    """How many entries of the exact result lie outside their bounds."""
    assert tuple(enclosure.value.shape) == np.shape(truth)
    with mpmath.workdps(240):
        values, errors = objects(enclosure.value), objects(enclosure.error)
        # The oracle's own error: that of 60 digits, or that of differences.
        return int(np.sum(abs(values - truth) > errors + mpmath.mpf("1e-50") * (1 + abs(truth))))


# Random functions


UNARY = [
    lambda xp, x: xp.sin(x),
    lambda xp, x: xp.tanh(x),
    lambda xp, x: xp.sigmoid(x),
    lambda xp, x: xp.exp(xp.tanh(x)),
    lambda xp, x: xp.erf(x) * 1.5,
    lambda xp, x: xp.log1p(x * x),
    lambda xp, x: xp.sqrt(x * x + 0.01),
    lambda xp, x: xp.atan(x) / 3,
    lambda xp, x: x**2,
    lambda xp, x: x**3 - x,
    lambda xp, x: 1 / (x**2 + 0.3),
    lambda xp, x: xp.flip(x),
    lambda xp, x: xp.cat([x[2:], x[:2]]),
    lambda xp, x: x - x.sum() / 4,
    lambda xp, x: x * (x * x).sum(),
    lambda xp, x: xp.array([*MATRIX, [1.0, 2.0, 3.0, 4.0]]) @ x,
]
BINARY = [
    lambda xp, a, b: a + b,
    lambda xp, a, b: a - b,
    lambda xp, a, b: a * b,
    lambda xp, a, b: a / (b * b + 0.5),
    lambda xp, a, b: (a + b) - a,
    lambda xp, a, b: (a - b) * (a + b) - a * a,
]


def random_function(seed):
    """Some 4 to 12 operations, each on earlier results."""
    draw = Draw(seed)
    steps = []
    for size in range(1, draw.integer(4, 12)):
        if draw.integer(0, 1):
            steps.append((draw.choice(UNARY), draw.integer(0, size - 1)))
        else:
            steps.append((draw.choice(BINARY), draw.integer(0, size - 1), draw.integer(0, size - 1)))

    def function(xp, w):
        results = [w]
        for operation, *places in steps:
            results.append(operation(xp, *(results[place] for place in places)))
        return results[-1] + results[len(results) // 2]

    return function, draw.normal(4) * 10 ** draw.uniform(-4, 2)
