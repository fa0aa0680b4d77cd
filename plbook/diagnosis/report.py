"""The record of a diagnosis, as text and as a table."""

from dataclasses import dataclass
from html import escape
from math import inf, isnan
from textwrap import fill

from torch import Tensor

from plbook.certificates import Certificate
from plbook.descent import StepConstants
from plbook.diagnosis.words import count, number, what_limits
from plbook.hessian import HessianNorms
from plbook.tangent_kernel import KernelSpectrum

# Columns of a terminal that the text needs at most.
WIDTH = 100


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """The outcome of `diagnose`: what the network's equations are like at its present weights.

    `eigenvalues` are those of K, ascending, shape (n,); below `spectrum.error` they are rounding. `constants` are L_F,
    beta_F and r0. `kink` says why DF has no Lipschitz constant, as for ReLU, or is "". A step of `step_size` on L, or of
    `learning_rate` on torch.nn.MSELoss(), should multiply the loss by at most `rate`, which rests on `mu`; `step_rigour` and
    `kantorovich_rigour` say how far that and h = `kantorovich_number` are proved. `num_silent` counts the equations whose
    gradient vanishes up to rounding; `closest_inputs` are the hardest to tell apart: lambda_min(K) <= `closest_gap`.
    """

    name: str
    num_inputs: int
    num_outputs: int
    num_parameters: int
    loss: float
    residual_norm: float
    target_norm: float
    spectrum: KernelSpectrum
    eigenvalues: Tensor
    pl_ratio: float
    hessian_norms: HessianNorms
    constants: StepConstants
    kink: str
    certificate: Certificate
    kantorovich_number: float
    kantorovich_rigour: str
    step_size: float
    mu: float
    rate: float
    learning_rate: float
    step_rigour: str
    num_silent: int
    closest_inputs: tuple | None
    closest_gap: float

    @property
    def num_equations(self):
        """n = inputs x outputs."""
        return self.num_inputs * self.num_outputs

    @property
    def parameterization(self):
        """ "over-parameterized", "under-parameterized", or that p = n."""
        if self.num_parameters == self.num_equations:
            return "as many parameters as equations"
        return "over-parameterized" if self.num_parameters > self.num_equations else "under-parameterized"

    @property
    def limits(self):
        """What limits optimization here: a tuple of sentences."""
        return what_limits(self)

    def figure(self):
        """The spectrum of K with the PL ratio and the step size: `figures.diagnosis`."""
        from plbook import figures  # here, so that a report without its figure does not load matplotlib

        return figures.diagnosis(self)

    def __str__(self):
        rows = self._rows()
        names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
        indent = " " * (names + values + 6)
        lines = [fill(self._title(), WIDTH), ""]
        for name, value, remark in rows:
            lines.append(fill(f"  {name:<{names}}  {value:<{values}}  {remark}", WIDTH, subsequent_indent=indent))
        lines += ["", "What limits optimization here"]
        lines += [fill(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ") for sentence in self.limits]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self):
        left = "text-align: left; padding: 0.2em 1em 0.2em 0"
        rows = "".join(
            f'<tr style="vertical-align: baseline"><th scope="row" style="{left}">{escape(name)}</th>'
            f'<td style="{left}; white-space: nowrap">{escape(value)}</td>'
            f'<td style="{left}">{escape(remark)}</td></tr>'
            for name, value, remark in self._rows()
        )
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.limits)
        return (
            f"<p><strong>{escape(self._title())}</strong></p>"
            f'<div style="overflow-x: auto"><table><tbody>{rows}</tbody></table></div>'
            f"<p>What limits optimization here</p><ul>{sentences}</ul>"
        )

    def _title(self):
        sizes = f"{count(self.num_inputs, 'input')} x {count(self.num_outputs, 'output')}"
        equations = f"{count(self.num_equations, 'equation')} ({sizes})"
        return f"{self.name}: {equations}, {count(self.num_parameters, 'parameter')}: {self.parameterization}"

    def _rows(self):
        """(name, value, remark) of each line. Estimates have two digits, the others three."""
        spectrum, certificate = self.spectrum, self.certificate
        sizes = f"1/2 |F - y|^2, with |F - y| = {number(self.residual_norm)} and |y| = {number(self.target_norm)}"
        return [
            ("loss", number(self.loss), sizes),
            ("smallest eigenvalue of K", *self._smallest()),
            ("largest eigenvalue of K", number(spectrum.largest), f"condition number {number(spectrum.condition_number)}"),
            ("PL ratio", number(self.pl_ratio), "1/2 |grad L|^2 / L, between these two"),
            ("Hessian norms", number(self.hessian_norms.largest, 2), self._hessian_remark()),
            ("Kantorovich number", number(self.kantorovich_number, 2), self._kantorovich_remark()),
            ("certificate", "yes" if certificate.holds else "no", certificate.status.split(";")[0]),
            ("step size", number(self.step_size, 2), self._step_remark()),
            ("rate", f"1 - {number(1 - self.rate, 2)}" if self.mu > 0 else "1", self._rate_remark()),
            ("learning rate", number(self.learning_rate, 2), "the same step for torch.nn.MSELoss() and torch.optim.SGD"),
        ]

    def _smallest(self):
        spectrum, bar = self.spectrum, number(self.spectrum.error, 1)
        if self.num_parameters < self.num_equations:
            return "0", "there are fewer parameters than equations"
        if not spectrum.resolved:
            return "not resolved", f"not told from 0: the error bar is {bar}"
        return number(spectrum.smallest), f"resolved: the error bar is {bar}"

    def _hessian_remark(self):
        norms, n = self.hessian_norms, self.num_equations
        measured = len(norms.per_equation)
        remark = f"estimate of the largest; of all together beta_F = {number(self.constants.hessian_bound, 2)}"
        if measured < n:
            remark += f", from {measured:,} of {n:,} equations"
        unsettled = int((norms.residuals > 0.01 * norms.per_equation).sum())
        return remark + (f"; {unsettled:,} not settled to 1%" if unsettled else "")

    def _kantorovich_remark(self):
        if self.kink:
            return "DF has no Lipschitz constant"
        if self.kantorovich_number == inf:
            return "K is not resolved"
        return f"beta r0 / lambda_min ({self.kantorovich_rigour}); a certificate needs < 1/2"

    def _step_remark(self):
        if self.certificate.descent is not None:
            return f"guaranteed ({self.step_rigour})"
        if isnan(self.step_size):
            return "none: DF and all Hessians vanish"
        if self.kink:
            return "Theorem 6's formula, which does not cover this network"
        return "estimate: 1/(L_F^2 + beta_F r0), Theorem 6 at these weights"

    def _rate_remark(self):
        if self.certificate.descent is not None:
            return f"factor of the loss per step, guaranteed ({self.step_rigour})"
        if not self.mu > 0:
            return "no promise: K is not resolved"
        if self.kink:
            return "1 - step size x lambda_min, which no theorem covers"
        return "estimate of the loss's factor per step while lambda_min stays"
