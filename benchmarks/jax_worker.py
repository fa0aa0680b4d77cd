"""The worker for neural-tangents: the same network as a plain JAX function, compiled before it is timed."""

import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.serving import serve, state

# neural_tangents imports this part, a converter for TensorFlow, without needing it.
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
import neural_tangents as nt  # noqa: E402

jax.config.update("jax_enable_x64", True)

METHODS = {
    "jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
    "vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
    "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
}


def by_lax(x, weight):
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_patches(x, weight):
    """The same convolution as one matrix product: XLA's own is slow in float64 on a CPU."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(patches, axis=-1) @ weight.reshape(-1, weight.shape[-1])


CONVOLUTIONS = {"lax": by_lax, "patches": by_patches}


def network_of(convolution):
    """f(weights, x) for 3x3 convolutions (weights of 4 dimensions), then linear layers, weights (in, out)."""

    def network(weights, x):
        for position, weight in enumerate(weights):
            if weight.ndim == 2 and x.ndim == 4:
                x = x.mean(axis=(1, 2))
            x = x / float(np.sqrt(weight[..., 0].size))
            x = x @ weight if weight.ndim == 2 else convolution(x, weight)
            if position < len(weights) - 1:
                x = jnp.tanh(x)
        return x

    return network


def load(method, workload, path, dtype, vmap_axes, convolution):
    """Compile for these inputs. Returns the seconds that took."""
    with np.load(path) as file:
        count = len(file.files) - len(("inputs", "targets"))
        weights = [_channels_last(file[str(i)], dtype) for i in range(count)]
        inputs = file["inputs"].astype(dtype)
    x = jnp.asarray(inputs if inputs.ndim == 2 else inputs.transpose(0, 2, 3, 1))
    kernel = nt.empirical_ntk_fn(
        network_of(CONVOLUTIONS[convolution]), trace_axes=(), vmap_axes=vmap_axes, implementation=METHODS[method]
    )
    start = time.perf_counter()
    compiled = jax.jit(lambda weights, x: kernel(x, None, weights)).lower(weights, x).compile()
    state["call"] = lambda: compiled(weights, x).block_until_ready()
    return time.perf_counter() - start


def _channels_last(weight, dtype):
    axes = (1, 0) if weight.ndim == 2 else (2, 3, 1, 0)
    return jnp.asarray(weight.astype(dtype).transpose(axes))


def save(path):
    """Store the last kernel, shape (n k, n k)."""
    kernel = np.asarray(state["result"])
    n, _, outputs, _ = kernel.shape
    np.save(path, kernel.transpose(0, 2, 1, 3).reshape(n * outputs, n * outputs))


if __name__ == "__main__":
    serve({"load": load, "save": save})
