"""Maps before and after a system, compositions of networks, and what they leave of its conditioning: chapter 5.

A map Phi after F turns the kernel into J_Phi K J_Phi^T, a map Psi before it into DF J_Psi J_Psi^T DF^T. Either way an
eigenvalue bound mu for K leaves mu rho^2, where rho is a lower bound of what the map's derivative does to lengths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev

from plbook.systems import NetworkSystem, System
from plbook.systems.guards import as_points
from plbook.tangent_kernel import kernel_spectrum, tangent_kernel


@dataclass(frozen=True, eq=False)
class TransformedConditioning:
    """The smallest eigenvalues of K before and after a transformation, and rho, at k points; each of shape (k,)."""

    smallest_eigenvalues: Tensor
    rhos: Tensor
    transformed_eigenvalues: Tensor

    @property
    def mu(self):
        """The smallest lambda_min(K) of the system that is transformed."""
        return self.smallest_eigenvalues.min().item()

    @property
    def rho(self):
        """The smallest rho."""
        return self.rhos.min().item()

    @property
    def bound(self):
        """mu rho^2, what the theorem leaves of mu."""
        return self.mu * self.rho**2

    @property
    def measured(self):
        """The smallest lambda_min(K) of the transformed system, at least the bound."""
        return self.transformed_eigenvalues.min().item()


def output_transform(system, transform):
    """The System Phi(F(w)) = Phi(y), with the same unknowns and start.

    Args:
        transform: Phi, from a tensor of shape (n,) to one of shape (k,), made of torch operations, as a rule one to one.

    The targets become Phi(y), so that no solution is lost; if Phi is one to one, none is added. For other targets t:
    System(output_transform(system, transform).value, t, system.start). The theorem is about the kernel, which no target
    enters. For an activation at a network's output use `output_activation`, which keeps the fast kernel by layers.

    Raises:
        ValueError: if Phi(y) or Phi(F(start)) is not finite, and as for System.

    Source: the paper's Theorem 3.
    """
    return System(lambda w: transform(system.value(w)), transform(system.targets), system.start)


def input_transform(system, transform, start):
    """The System F(Psi(v)) = y in new unknowns v.

    Args:
        transform: Psi, from a tensor of shape (q,) to one of shape (p,), made of torch operations.
        start: v0, shape (q,); the old start is Psi(v0) only if you choose it so.

    Raises:
        ValueError: if Psi(v0) does not have shape (p,), and as for System.

    Source: the paper's Remark 4.
    """
    return System(lambda v: system.value(transform(v)), system.targets, start)


def output_conditioning(system, transform, points):
    """What Theorem 3 predicts for `output_transform`, and the eigenvalues it predicts them for: a TransformedConditioning.

    If lambda_min(K_F) >= mu and rho = inf sigma_min(J_Phi(F(w))) > 0 on a set, then lambda_min(K) >= mu rho^2 there for
    Phi(F). For a square J_Phi, sigma_min(J_Phi) = 1 / |J_Phi^-1|_2; if Phi has more values than arguments, rho = 0.

    Args:
        points: shape (k, p). The smallest mu and rho among points give a bound at these points, not between them.

    Cost: two kernel spectra and a Jacobian of Phi per point.
    Source: the paper's Theorem 3: K_{Phi o F} = J_Phi K_F J_Phi^T.
    """
    points = as_points(points, system.num_parameters)
    images = [system.value(w) for w in points]
    return _conditioning(system, points, transform, images, output_transform(system, transform), points)


def input_conditioning(system, transform, points):
    """What Remark 4 predicts for `input_transform`, and the eigenvalues it predicts them for: a TransformedConditioning.

    If lambda_min(K_F) >= mu on Psi(S) and rho = inf sigma_min(J_Psi) > 0 on S, then lambda_min(K) >= mu rho^2 on S for
    F o Psi. Being conditioned on S itself does not help. In general rho^2 bounds J_Psi J_Psi^T from below; if
    Psi has more values than arguments, rho = 0.

    Args:
        points: shape (k, q), of the new unknowns v. The bound holds at these points, not between them.

    Cost: two kernel spectra and a Jacobian of Psi per point.
    Source: the paper's Remark 4: K_{F o Psi} = DF J_Psi J_Psi^T DF^T at Psi(v).
    """
    points = as_points(points, torch.atleast_1d(torch.as_tensor(points)).shape[-1])
    images = [transform(v) for v in points]
    return _conditioning(system, images, transform, points, input_transform(system, transform, points[0]), points)


def _conditioning(system, places, transform, arguments, transformed, points):
    """Eigenvalues of the system at its places, rho at the map's arguments, eigenvalues of the transformed system."""
    before = [kernel_spectrum(system, w).smallest for w in places]
    rhos = [_smallest_stretch(jacrev(transform)(z)) for z in arguments]
    after = [kernel_spectrum(transformed, w).smallest for w in points]
    return TransformedConditioning(*(torch.tensor(values, dtype=torch.float64) for values in (before, rhos, after)))


def _smallest_stretch(jacobian):
    """sqrt(lambda_min(J J^T))."""
    rows, columns = jacobian.shape
    return torch.linalg.svdvals(jacobian)[-1].item() if rows <= columns else 0.0


def composition(inner, outer, targets):
    """The NetworkSystem of h = g o f, the module g after the network f of a system, on its inputs.

    Args:
        inner: the NetworkSystem of f.
        outer: g, a torch.nn.Module that takes the outputs of f.
        targets: of h, as for NetworkSystem.

    The module is nn.Sequential(f, g), so the unknowns are (w_f, w_g), and `composition_kernels` with split=1 fits.

    Raises:
        ValueError: for an inner system that is not a network's, and as for NetworkSystem.
    """
    if not isinstance(inner, NetworkSystem):
        raise ValueError(f"inner must be a NetworkSystem, got {type(inner).__name__}.")
    return NetworkSystem(nn.Sequential(inner.module_at(inner.start), outer), inner._samples, targets)


@dataclass(frozen=True, eq=False)
class CompositionKernels:
    """The kernel of h = g o f in two terms of shape (n, n), and the smallest eigenvalues of the first and of the sum."""

    outer: Tensor
    inner: Tensor
    outer_smallest_eigenvalue: float
    smallest_eigenvalue: float


def composition_kernels(system, split, w=None):
    """Both terms of K_h = K_g(w_g; f(D)) + J_g K_f(w_f; D) J_g^T for h = g o f, a Sequential split in two.

    Both are positive semidefinite, so lambda_min(K_h) >= lambda_min(K_g), whatever f does: a well-conditioned upper
    part is enough. J_g, the derivative of g by its inputs, is block-diagonal, one block for each input of the network.

    Args:
        system: a NetworkSystem whose module is a torch.nn.Sequential.
        split: the number of layers in f, at least 1; the others, at least 1, are g.

    Returns:
        A CompositionKernels. Each term is the tangent kernel with respect to one part's parameters (0 if it has none).

    Cost: two tangent kernels and two spectra.

    Raises:
        ValueError: for another kind of system, a split that leaves nothing on one side, and if the two parts share a
            parameter: the formula needs the parameters apart.

    Source: the paper's Proposition 4 and equation (16).
    """
    w = system.point(w)
    module = system.module_at(w) if isinstance(system, NetworkSystem) else None
    if not isinstance(module, nn.Sequential):
        kind = type(system if module is None else module).__name__
        raise ValueError(f"the system must be that of a torch.nn.Sequential, f first and g after it; got {kind}.")
    if split not in range(1, len(module)):
        raise ValueError(f"split must be a number of layers from 1 to {len(module) - 1}, those of f; got {split}.")
    lower, upper = ({p for p in part.parameters() if p.requires_grad} for part in (module[:split], module[split:]))
    if lower & upper:
        names = [name for name, parameter in module.named_parameters() if parameter in lower & upper]
        raise ValueError(f"f and g share {', '.join(names)}; the formula needs their parameters apart. Split elsewhere.")
    outer, inner = _trained_in_part(system, module, upper), _trained_in_part(system, module, lower)
    zero = torch.zeros(system.num_equations, system.num_equations, dtype=w.dtype, device=w.device)
    return CompositionKernels(
        outer=zero if outer is None else tangent_kernel(outer),
        inner=zero if inner is None else tangent_kernel(inner),
        outer_smallest_eigenvalue=0.0 if outer is None else kernel_spectrum(outer).smallest,
        smallest_eigenvalue=kernel_spectrum(system, w).smallest,
    )


def _trained_in_part(system, module, trained):
    """The system of the module with these of its parameters for unknowns, or None if there are none."""
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in trained)
    targets = system.targets.reshape(len(system._samples), -1)
    return NetworkSystem(module, system._samples, targets) if trained else None
