"""What limits optimization, in words made of the numbers of a diagnosis."""

from math import floor, inf, isfinite, log, log10

# A PL ratio below this share of lambda_max(K) is called small.
SMALL_SHARE = 0.1
# A condition number of K above this is called large.
LARGE_CONDITION = 1000
# The closest pair of inputs accounts for the smallest eigenvalue if its bound is within this factor of it.
ACCOUNTS = 10
# A residual below this share of the targets is what rounding leaves.
ROUNDING = 1e-12


def number(x, digits=3):
    """x with so many digits, with powers of ten only where they help."""
    if x == 0 or not isfinite(x):
        return f"{x:g}"
    rounded = float(f"{x:.{digits}g}")
    return f"{rounded:,.0f}" if digits <= floor(log10(abs(rounded))) < 7 else f"{rounded:.{digits}g}"


def count(k, noun):
    """ "1 input", "2,000 inputs"."""
    return f"{k:,} {noun}" + ("" if k == 1 else "s")


def what_limits(report):
    """The sentences: about the kernel, the speed now and later, the step, the certificate."""
    sentences = (_kernel(report), _now(report), _later(report), _step(report), _certificate(report))
    return tuple(sentence for sentence in sentences if sentence)


def _kernel(report):
    n, p, spectrum = report.num_equations, report.num_parameters, report.spectrum
    if p < n:
        return (
            f"Too few parameters: {p:,} for {n:,} equations. K is singular at all weights, and most targets cannot be "
            f"fitted exactly; it takes at least {n - p:,} more."
        )
    if not spectrum.resolved:
        out_of_reach = "There are enough parameters, but K is not resolved: as far as float64 can tell, some change of the outputs is out of reach."
        return f"{out_of_reach} {_cause(report)}"
    condition = number(spectrum.condition_number, 2)
    if spectrum.condition_number <= LARGE_CONDITION:
        return f"There are enough parameters, and K is resolved, with a condition number of {condition}."
    sentence = f"There are enough parameters and K is resolved, but its condition number is large, {condition}."
    if report.closest_gap > ACCOUNTS * spectrum.smallest:
        return sentence
    first, second = report.closest_inputs
    gap = number(report.closest_gap, 2)
    return f"{sentence} Inputs {first} and {second} are much alike: they alone keep lambda_min below {gap}."


def _cause(report):
    if report.num_silent:
        return (
            f"{report.num_silent:,} of {count(report.num_equations, 'output')} do not react to any parameter: look for "
            "dead or saturated units."
        )
    if report.closest_gap <= report.spectrum.error:
        first, second = report.closest_inputs
        return f"Inputs {first} and {second} look the same to the network: equal or nearly equal inputs make K singular."
    return "No two inputs alone are to blame: look for a layer that is too narrow, and for saturated or dead units."


def _fitted(report):
    return report.residual_norm <= ROUNDING * report.target_norm


def _now(report):
    if _fitted(report):
        return "The residual is 0 up to rounding: nothing is left to optimize."
    if report.pl_ratio <= report.spectrum.error:
        return "The gradient is 0 up to rounding, but the loss is not: gradient descent hardly leaves these weights."
    # Eigenvalues above half of lambda_max have less than 2 SMALL_SHARE of the residual's square then.
    weak = report.pl_ratio < SMALL_SHARE * report.spectrum.largest
    where = "The residual lies mostly along weak directions of K" if weak else "Strong directions of K take part in the residual"
    return (
        f"{where} (PL ratio {number(report.pl_ratio, 2)}, lambda_max {number(report.spectrum.largest, 2)}): the first step "
        f"takes off at least about {number(100 * report.step_size * report.pl_ratio, 2)}% of the loss."
    )


def _later(report):
    if _fitted(report) or not report.mu > 0:
        return ""
    steps = number(log(10) / (1 - report.rate), 1)
    return f"In the end the weakest direction decides: at most about {steps} such steps for each factor of 10 in the loss."


def _step(report):
    constants = report.constants
    steep, curved = constants.jacobian_norm**2, constants.hessian_bound * constants.residual_norm
    if _fitted(report) or steep == 0:
        return ""
    sizes = f"beta_F r0 = {number(curved, 2)} against L_F^2 = {number(steep, 2)}"
    if curved > steep:
        more = number(1 + curved / steep, 2)
        return f"Curvature keeps the step small ({sizes}); with a small residual it could be {more} times as long."
    return f"The slope of F, not its curvature, limits the step ({sizes})."


def _certificate(report):
    certificate = report.certificate
    if certificate.holds:
        radius = number(certificate.radius, 2)
        return f"Certified ({certificate.rigour}): an exact solution lies within {radius} of these weights."
    if report.kink:
        return f"No certificate: {report.kink}."
    if not report.spectrum.resolved:
        return ""
    if not certificate.status.startswith("not tried") and 0.5 <= report.kantorovich_number < inf:
        factor = number(2 * report.kantorovich_number, 1)
        return (
            f"Too far from a solution for a certificate: by this estimate a residual about {factor} times smaller would do. "
            "Train longer, then polish."
        )
    return f"No certificate: {certificate.status.split(': ', 1)[-1]}."
