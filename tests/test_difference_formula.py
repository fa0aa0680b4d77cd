"""The formula of chapter 12 for DF(w) - DF(w0), written out with dense matrices for a small network with a sum of branches."""

import math

import pytest
import torch
from helpers import randn
from torch.testing import assert_close

from plbook.networks import Antisymmetric

# z1 = W1 (x, 1); a1 = tanh z1; z2 = W2 a1; a2 = tanh z2; s = a1 + a2; f = W3 (s, 1).
SIZES = {"z1": 4, "a1": 4, "z2": 4, "a2": 4, "s": 4, "f": 2}
STARTS = dict(zip(SIZES, [0, *torch.tensor(list(SIZES.values())).cumsum(0).tolist()]))
PLACE = {name: slice(start, start + SIZES[name]) for name, start in STARTS.items()}
INPUT, ONE = randn(3), torch.ones(1, dtype=torch.float64)
LAYERS = {"z1": None, "z2": "a1", "f": "s"}  # each layer and the node that it reads


def draw(seed, *, size=1.0):
    """Weights, or a change of them."""
    parts = size * randn(42, seed=seed)
    return {"z1": parts[:16].view(4, 4), "z2": parts[16:32].view(4, 4), "f": parts[32:].view(2, 5)}


def forward(W):
    z1 = W["z1"] @ torch.cat([INPUT, ONE])
    a1 = torch.tanh(z1)
    z2 = W["z2"] @ a1
    a2 = torch.tanh(z2)
    s = a1 + a2
    return {"z1": z1, "a1": a1, "z2": z2, "a2": a2, "s": s, "f": W["f"] @ torch.cat([s, ONE])}


def layer_input(layer, nodes):
    """alpha_k: what the layer's weights multiply."""
    return {"z1": torch.cat([INPUT, ONE]), "z2": nodes["a1"], "f": torch.cat([nodes["s"], ONE])}[layer]


def direct(V, nodes):
    """[V alpha]."""
    moves = torch.zeros(sum(SIZES.values()), dtype=torch.float64)
    for layer in LAYERS:
        moves[PLACE[layer]] = V[layer] @ layer_input(layer, nodes)
    return moves


def inverse(W, slopes):
    """(I - T)^-1 for these weights and slopes."""
    T = torch.zeros(2 * (sum(SIZES.values()),), dtype=torch.float64)
    T[PLACE["a1"], PLACE["z1"]], T[PLACE["a2"], PLACE["z2"]] = slopes["a1"].diag(), slopes["a2"].diag()
    T[PLACE["z2"], PLACE["a1"]], T[PLACE["f"], PLACE["s"]] = W["z2"], W["f"][:, :4]
    T[PLACE["s"], PLACE["a1"]] = T[PLACE["s"], PLACE["a2"]] = torch.eye(4, dtype=torch.float64)
    return torch.linalg.inv(torch.eye(len(T), dtype=torch.float64) - T)


def slopes(nodes):
    return {name: 1 - nodes[name] ** 2 for name in ("a1", "a2")}


def derivative(W, V):
    return torch.func.jvp(lambda W: forward(W)["f"], (W,), (V,))[1]


def right_side(W0, U, V, u, *, hybrid_slopes_at_w=True):
    """The right side of the formula for u^T (Df(W0 + U) - Df(W0)) V."""
    W = {name: W0[name] + U[name] for name in W0}
    n0, n = forward(W0), forward(W)
    D0, D = slopes(n0), slopes(n)
    d = inverse(W0, D if hybrid_slopes_at_w else D0) @ direct(V, n0)
    b0, b = u @ inverse(W0, D0)[PLACE["f"]], u @ inverse(W, D)[PLACE["f"]]
    total = sum(b0[PLACE[a]] @ ((D[a] - D0[a]) * d[PLACE[z]]) for z, a in (("z1", "a1"), ("z2", "a2")))
    for layer, source in LAYERS.items():
        if source is not None:
            total = total + b[PLACE[layer]] @ (U[layer][:, :4] @ d[PLACE[source]])
        change = layer_input(layer, n) - layer_input(layer, n0)
        total = total + b[PLACE[layer]] @ (V[layer] @ change)
    return total


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_difference_formula_is_exact(size):
    for seed in range(20):
        W0, V, U, u = draw(3 * seed), draw(3 * seed + 1), draw(3 * seed + 2, size=size), randn(2, seed=seed)
        W = {name: W0[name] + U[name] for name in W0}
        left = u @ (derivative(W, V) - derivative(W0, V))
        # Rounding of size-one numbers, thousands of them, is all that differs.
        assert_close(left, right_side(W0, U, V, u), rtol=1e-10, atol=1e-11)
        wrong = right_side(W0, U, V, u, hybrid_slopes_at_w=False)
        assert size < 1 or abs(left - wrong) > 1e-6


def test_the_nodes_differ_by_a_move_with_the_slopes_between():
    for seed in range(20):
        W0, U = draw(2 * seed), draw(2 * seed + 1)
        W = {name: W0[name] + U[name] for name in W0}
        n0, n = forward(W0), forward(W)
        quotients = {a: (n[a] - n0[a]) / (n[z] - n0[z]) for z, a in (("z1", "a1"), ("z2", "a2"))}
        move = inverse(W0, quotients) @ direct(U, n)
        for name, place in PLACE.items():
            assert_close(move[place], n[name] - n0[name], rtol=1e-9, atol=1e-11)


def test_the_limit_of_the_formula_is_the_second_derivative():
    W, U, V, u = draw(1), draw(2), draw(3), randn(2)
    exact = u @ torch.func.jvp(lambda W: derivative(W, V), (W,), (U,))[1]
    nodes = forward(W)
    D, G = slopes(nodes), inverse(W, slopes(nodes))
    along_u, along_v, b = G @ direct(U, nodes), G @ direct(V, nodes), u @ G[PLACE["f"]]
    total = 0.0
    for z, a in (("z1", "a1"), ("z2", "a2")):
        curvature = -2 * nodes[a] * D[a]
        total += (b[PLACE[a]] * curvature * along_u[PLACE[z]]) @ along_v[PLACE[z]]
    for layer, source in LAYERS.items():
        if source is not None:
            total += b[PLACE[layer]] @ (U[layer][:, :4] @ along_v[PLACE[source]])
            total += b[PLACE[layer]] @ (V[layer][:, :4] @ along_u[PLACE[source]])
    assert_close(total, exact, rtol=1e-10, atol=1e-11)


def one_hidden_constant(X, v):
    a = 4 / (3 * math.sqrt(3)) * v.abs().max().item()
    return torch.linalg.matrix_norm(X, 2).item() / math.sqrt(v.numel()) * (a / 2 + math.sqrt(1 + a * a / 4))


@pytest.mark.parametrize("distance", [0.1, 3.0, 100.0])
def test_the_closed_constant_of_one_hidden_layer_holds_at_every_distance(distance):
    """Random directions, most of which leave some units or the output weights where they are."""
    X = randn(5, 4)
    X = X / X.norm(dim=1, keepdim=True)
    hidden, output = (w.detach() for w in Antisymmetric(4, 6, seed=2).parameters())

    def jacobian(W, v):
        return torch.cat([torch.func.jacrev(lambda W, v: torch.tanh(X @ W.T) @ v[0] / math.sqrt(6), argnums=k)(W, v).flatten(1)
                          for k in (0, 1)], dim=1)

    bound, found = one_hidden_constant(X, output), 0.0
    at_start = jacobian(hidden, output)
    for seed in range(200):
        parts = randn(6 * 5 + 7, seed=seed)
        dW = parts[:24].view(6, 4) * (parts[30:36, None].abs() > 1)
        dv = parts[None, 24:30] * (parts[36] > 0)
        length = (dW.square().sum() + dv.square().sum()).sqrt()
        if length > 0:
            moved = jacobian(hidden + distance / length * dW, output + distance / length * dv)
            found = max(found, torch.linalg.matrix_norm(moved - at_start, 2).item() / distance)
    assert found <= bound
    # Not far above, where the activations still turn.
    assert distance > 1 or found > bound / 4
