import dataclasses
import importlib
import math
import time

import pytest
import torch
from helpers import Forward, frozen, randn, seeded
from matplotlib.figure import Figure
from torch import nn
from torch.testing import assert_close

import plbook as pl
from plbook import reference
from plbook.certificates import DescentGuarantee
from plbook.diagnosis import words

# Not the package's function of the same name.
measure = importlib.import_module("plbook.diagnosis.measure")


# Five networks that are not ours


def mlp(width, outputs):
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs))


class LeNet(nn.Module):
    def __init__(self, first, second, width, outputs):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, first, 3, padding=1), nn.Conv2d(first, second, 3, padding=1)
        self.average, self.largest = nn.AvgPool2d(2), nn.MaxPool2d(2)
        self.hidden, self.last = nn.Linear(4 * second, width), nn.Linear(width, outputs)

    def forward(self, x):
        x = self.average(torch.tanh(self.first(x.view(-1, 1, 8, 8))))
        x = self.largest(torch.tanh(self.second(x)))
        return self.last(torch.tanh(self.hidden(x.flatten(1))))


def block(channels):
    layers = {
        "first": nn.Conv2d(channels, channels, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(channels),
        "second": nn.Conv2d(channels, channels, 3, padding=1, bias=False), "last_norm": nn.BatchNorm2d(channels),
    }

    def forward(self, x):
        return torch.relu(x + self.last_norm(self.second(torch.relu(self.norm(self.first(x))))))

    return Forward(forward, **layers)


def resnet(channels, outputs):
    """In evaluation mode, with statistics from a few batches."""
    stem = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)]
    module = nn.Sequential(*stem, block(channels), block(channels), *head)
    for seed in range(5):
        module(randn(20, 64, seed=seed).float())
    return module.eval()


def normalized(width, outputs):
    return nn.Sequential(nn.Linear(64, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, outputs))


def transformer(size, feedforward, outputs):
    """The rows of the image are the tokens."""
    encoder = nn.TransformerEncoderLayer(size, 2, feedforward, activation="gelu", batch_first=True)
    layers = {"embed": nn.Linear(8, size), "encoder": encoder, "last": nn.Linear(size, outputs)}
    return Forward(lambda self, x: self.last(self.encoder(self.embed(x.view(-1, 8, 8))).mean(1)), **layers).eval()


# Small enough for the twin, which forms the Hessian of every equation.
FOREIGN = {
    "MLP": lambda: mlp(4, 1),
    "LeNet": lambda: LeNet(2, 3, 5, 1),
    "ResNet": lambda: resnet(2, 1),
    "LayerNorm": lambda: normalized(4, 1),
    "transformer": lambda: transformer(4, 8, 1),
}
LARGER = {
    "MLP": lambda: mlp(64, 10),
    "LeNet": lambda: LeNet(6, 16, 32, 10),
    "ResNet": lambda: resnet(8, 10),
    "LayerNorm": lambda: normalized(64, 10),
    "transformer": lambda: transformer(16, 32, 10),
}
DIGITS = pl.datasets.digits(10)
ONE_HOT = pl.datasets.digits(10, targets="one-hot")


@pytest.mark.parametrize("name", FOREIGN)
def test_every_number_of_a_foreign_network_equals_the_reference_twin(name):
    module = seeded(FOREIGN[name])
    started = time.perf_counter()
    report = pl.diagnose(module, DIGITS.inputs, DIGITS.targets)
    assert time.perf_counter() - started < 60
    system = pl.NetworkSystem(module, DIGITS.inputs, DIGITS.targets)
    assert_equals_twin(report, system)

    norms = reference.hessian_norms(system, system.start)
    # Lanczos stops at a residual of 1%, which bounds the error. The joint norm is off by no more.
    assert_close(report.hessian_norms.per_equation, norms, rtol=1e-2, atol=0)
    joint, residual, largest = norms.norm().item(), report.residual_norm, report.spectrum.largest
    assert report.constants.hessian_bound == pytest.approx(joint, rel=1e-2)
    step_size = 1 / (largest + joint * residual)
    assert report.step_size == pytest.approx(step_size, rel=1e-2) and report.step_rigour == "estimate"
    assert report.learning_rate == pytest.approx(step_size * 10 / 2, rel=1e-2)
    assert 1 - report.rate == pytest.approx(step_size * report.spectrum.smallest, rel=1e-2)
    if name in ("LeNet", "ResNet"):
        assert report.kantorovich_number == math.inf and "jumps" in report.kink
        return
    assert report.kantorovich_number == pytest.approx(joint * residual / report.spectrum.smallest, rel=1e-2)
    assert report.kantorovich_rigour == "estimate" and report.kink == ""
    covered = name == "MLP"
    assert ("h is at least" if covered else "do not cover") in report.certificate.status


def assert_equals_twin(report, system):
    """All but the Hessians."""
    w = system.start
    value = system.module_at(w)(system._samples).detach().reshape(-1)
    residual = (value - system.targets).norm().item()
    kernel = reference.tangent_kernel(system, w)
    eigenvalues, bar = torch.linalg.eigvalsh(kernel), report.spectrum.error
    assert (report.num_inputs, report.num_equations) == (len(system._samples), system.num_equations)
    assert report.num_parameters == sum(p.numel() for p in system.module_at(w).parameters())
    # Sums of a few hundred products in float64.
    assert report.residual_norm == pytest.approx(residual, rel=1e-10)
    assert report.loss == pytest.approx(residual**2 / 2, rel=1e-10)
    assert report.target_norm == pytest.approx(system.targets.norm().item(), rel=1e-12)
    assert report.pl_ratio == pytest.approx(reference.pl_ratio(system, w), rel=1e-9)
    # The bar says how far eigenvalues are known; the twin's are rounded, too.
    assert bar < 1e-9 * report.spectrum.largest
    assert_close(report.eigenvalues, eigenvalues, rtol=0, atol=2 * bar)
    assert report.spectrum.largest == pytest.approx(eigenvalues[-1].item(), abs=2 * bar)
    assert report.spectrum.smallest == pytest.approx(eigenvalues[0].item(), abs=2 * bar)
    assert report.constants.jacobian_norm == pytest.approx(eigenvalues[-1].sqrt().item(), rel=1e-9)
    assert report.num_silent == int((kernel.diagonal() <= bar).sum()) == 0
    outputs = report.num_outputs
    gaps = {
        (j // outputs, i // outputs, i % outputs): (kernel[i, i] + kernel[j, j] - 2 * kernel[i, j]).item() / 2
        for i in range(report.num_equations) for j in range(i) if i % outputs == j % outputs
    }
    assert report.closest_gap == pytest.approx(min(gaps.values()), rel=1e-9)
    assert report.closest_inputs == min(gaps, key=gaps.get)[:2]
    assert report.spectrum.smallest <= report.closest_gap
    assert report.learning_rate == report.step_size * report.num_equations / 2


@pytest.mark.parametrize("name", LARGER)
def test_larger_foreign_networks_with_ten_outputs_in_under_a_minute(name):
    module = seeded(LARGER[name])
    started = time.perf_counter()
    report = pl.diagnose(module, ONE_HOT.inputs, ONE_HOT.targets)
    assert time.perf_counter() - started < 60
    assert report.num_equations == 100 and len(report.hessian_norms.per_equation) == 100
    assert_equals_twin(report, pl.NetworkSystem(module, ONE_HOT.inputs, ONE_HOT.targets))


def test_the_module_stays_as_it_was():
    module = seeded(FOREIGN["ResNet"])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pl.diagnose(module, DIGITS.inputs, DIGITS.targets)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert next(module.parameters()).dtype == torch.float32 and next(module.parameters()).grad is None


# Refused


@pytest.mark.parametrize(
    "module, targets, message",
    [
        (mlp(3, 10), DIGITS.labels, "class labels.*one_hot"),
        (mlp(3, 10), DIGITS.labels.numpy(), "class labels.*one_hot"),
        (mlp(3, 10), DIGITS.labels.double(), r"targets must have shape \(10, 10\)"),
        (nn.Sequential(nn.Linear(64, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), DIGITS.targets, "BatchNorm1d.*eval"),
        (nn.Sequential(nn.Linear(64, 3), nn.Dropout(0.1), nn.Linear(3, 1)), DIGITS.targets, "Dropout.*eval"),
        (frozen(nn.Linear(64, 1), "weight", "bias"), DIGITS.targets, "nothing to solve for"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_in_one_line(module, targets, message):
    with pytest.raises(ValueError, match=message) as error:
        pl.diagnose(module, DIGITS.inputs, targets)
    assert "\n" not in str(error.value)


# The learning rate


def step_by_torch(module, inputs, targets, rate):
    """The parameters after one step of torch's own descent on its mean-squared-error loss."""
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    nn.MSELoss()(module(inputs), targets.view(len(inputs), -1)).backward()
    optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.mark.parametrize("outputs, data", [(1, DIGITS), (10, ONE_HOT)])
def test_the_learning_rate_makes_the_same_step(outputs, data):
    module = seeded(lambda: mlp(3, outputs)).double()
    report, system = pl.diagnose(module, data.inputs, data.targets), pl.NetworkSystem(module, data.inputs, data.targets)
    expected = system.start - report.step_size * system.gradient(system.start)
    for factor in (1, 0.99):
        moved = step_by_torch(system.module_at(system.start), data.inputs, data.targets, factor * report.learning_rate)
        # Two orders of summation of some thousand terms.
        assert torch.allclose(moved, expected, rtol=1e-11, atol=1e-13) == (factor == 1)


# Certificates


@pytest.fixture(scope="module")
def fitted():
    """A system, a point near one of its solutions, and the solution as polished."""
    system = pl.NetworkSystem(seeded(lambda: mlp(4, 1)), DIGITS.inputs, DIGITS.targets)
    near = pl.gradient_descent(system, max_steps=3000, loss_tolerance=1e-13).w
    return system, near, pl.polish(system, near).w


def at(system, w):
    return pl.diagnose(system.module_at(w), system._samples, system.targets)


def test_with_a_certificate_step_and_rate_are_the_guaranteed_ones(fitted):
    system, near, _ = fitted
    report = at(system, near)
    certificate = pl.certify_solution(system, near)
    assert report.certificate == certificate and certificate.holds and certificate.descent is not None
    assert (report.step_size, report.rate) == (certificate.descent.step_size, certificate.descent.factor)
    assert report.mu == certificate.descent.mu and report.step_rigour == report.kantorovich_rigour == certificate.rigour
    assert report.kantorovich_number == certificate.kantorovich_number < 0.5
    assert any(sentence.startswith("Certified") for sentence in report.limits)
    # Descent keeps the promise, down to where rounding takes over.
    losses = pl.gradient_descent(system, near, step_size=report.step_size, max_steps=50).losses
    assert (losses[1:] <= report.rate * losses[:-1] + 1e-25).all()


def test_a_certificate_without_a_promise_for_descent_leaves_the_estimate(fitted, monkeypatch):
    system, near, _ = fitted
    bare = dataclasses.replace(pl.certify_solution(system, near), descent=None)
    monkeypatch.setattr(measure, "certify_solution", lambda system: bare)
    report = at(system, near)
    assert report.step_rigour == "estimate" and report.step_size == report.constants.step_size
    assert report.rate == 1 - report.step_size * report.spectrum.smallest


def test_relu_is_diagnosed_without_a_certificate():
    relu = seeded(lambda: nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 1)))
    report = pl.diagnose(relu, DIGITS.inputs, DIGITS.targets)
    assert not report.certificate.holds and "ReLU" in report.kink and report.kantorovich_number == math.inf
    assert report.hessian_norms.largest > 0 and report.spectrum.resolved
    assert report.limits[-1] == f"No certificate: {report.kink}."
    assert "does not cover this network" in str(report) and "Lipschitz" in str(report)


def test_certificates_are_tried_only_where_they_are_affordable(fitted, monkeypatch):
    system, near, _ = fitted
    monkeypatch.setattr(measure, "CERTIFICATE_ENTRIES", 10 * 285)
    assert at(system, near).certificate.holds
    monkeypatch.setattr(measure, "CERTIFICATE_ENTRIES", 10 * 285 - 1)
    report = at(system, near)
    assert not report.certificate.holds and report.certificate.status.startswith("not tried: DF has 2.8e+03 entries")
    assert report.kantorovich_rigour == "estimate" and report.kantorovich_number < 0.5
    assert report.limits[-1].startswith("No certificate: DF has")


def test_certificates_are_tried_only_where_they_can_hold(fitted, monkeypatch):
    """h is at least max_i |H_i|_2 r0 / lambda_min: no certificate is missed."""
    system, near, solution = fitted
    tried = []
    monkeypatch.setattr(measure, "certify_solution", lambda system: tried.append(system) or pl.certify_solution(system))
    for share in (1e-6, 1e-3, 1e-2, 1e-1, 1):
        w = solution + share * (system.start - solution)
        report = at(system, w)
        least = report.hessian_norms.largest * report.residual_norm / report.spectrum.smallest
        certificate = pl.certify_solution(system, w)
        assert certificate.kantorovich_number > 0.99 * least
        assert bool(tried) == (least < 0.5) and certificate.holds <= bool(tried)
        assert tried or report.certificate.status.startswith(f"fails: h is at least {least:.2g}")
        tried.clear()
    assert pl.diagnose(seeded(lambda: mlp(1, 10)), DIGITS.inputs, randn(10, 10)).certificate.status == (
        "fails: K is singular, as there are fewer parameters than equations"
    )


# Hessian norms of some equations


def test_hessian_norms_of_evenly_spaced_inputs(monkeypatch):
    module = seeded(lambda: mlp(4, 10))
    system = pl.NetworkSystem(module, ONE_HOT.inputs, ONE_HOT.targets)
    monkeypatch.setattr(measure, "HESSIAN_ENTRIES", 39 * system.num_parameters)
    report = pl.diagnose(module, ONE_HOT.inputs, ONE_HOT.targets)
    # 39 equations allow for three inputs of ten equations each: the first, the middle and the last.
    norms = pl.hessian_norms(system).per_equation.view(10, 10)[[0, 4, 9]]
    assert_close(report.hessian_norms.per_equation, norms.reshape(-1), rtol=2e-2, atol=0)
    joint = report.hessian_norms.joint * math.sqrt(100 / 30)
    assert report.constants.hessian_bound == pytest.approx(joint, rel=1e-12)
    assert "from 30 of 100 equations" in " ".join(str(report).split())
    monkeypatch.setattr(measure, "HESSIAN_ENTRIES", 1)
    assert len(pl.diagnose(module, ONE_HOT.inputs, ONE_HOT.targets).hessian_norms.per_equation) == 10


def test_unsettled_hessian_norms_are_counted():
    report = pl.diagnose(seeded(lambda: mlp(4, 1)), DIGITS.inputs, DIGITS.targets)
    norms = report.hessian_norms
    # Just above 1% of the norm, and just below it.
    residuals = norms.per_equation * torch.where(torch.arange(10) < 3, 0.0101, 0.0099)
    unsettled = dataclasses.replace(report, hessian_norms=pl.HessianNorms(norms.per_equation, residuals))
    assert "3 not settled to 1%" in " ".join(str(unsettled).split()) and "settled" not in str(report)


# In words


@pytest.fixture(scope="module")
def report():
    return pl.diagnose(seeded(lambda: mlp(4, 1)), DIGITS.inputs, DIGITS.targets)


def says(report, text):
    """How many of the sentences contain the text."""
    return sum(text in sentence for sentence in report.limits)


def with_spectrum(report, **changes):
    return dataclasses.replace(report, spectrum=dataclasses.replace(report.spectrum, **changes))


def test_too_few_parameters(report):
    few = pl.diagnose(seeded(lambda: nn.Linear(3, 1)), DIGITS.inputs[:, 20:23], DIGITS.targets)
    assert few.parameterization == "under-parameterized" and few.rate == 1 and few.mu == 0
    assert says(few, "Too few parameters: 4 for 10 equations") and says(few, "at least 6 more")
    assert not says(few, "enough parameters") and not says(few, "In the end")
    assert report.parameterization == "over-parameterized"
    assert says(report, "enough parameters") and not says(report, "Too few")
    assert dataclasses.replace(report, num_parameters=10).parameterization == "as many parameters as equations"


def test_equal_inputs_and_dead_units_are_named():
    module = seeded(lambda: mlp(4, 1))
    for shift in (0, 1e-9):
        inputs = torch.cat([DIGITS.inputs, DIGITS.inputs[3:4] + shift])
        twins = pl.diagnose(module, inputs, torch.cat([DIGITS.targets, DIGITS.targets[3:4]]))
        assert twins.closest_inputs == (3, 10) and twins.rate == 1
        assert says(twins, "not resolved") and says(twins, "Inputs 3 and 10 look the same")
        assert not says(twins, "dead") and not says(twins, "In the end")

    dead = seeded(lambda: nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 1, bias=False)))
    with torch.no_grad():
        dead[0].bias.fill_(-1000)
    silent = pl.diagnose(dead, DIGITS.inputs, DIGITS.targets)
    assert silent.num_silent == 10 and math.isnan(silent.step_size) and math.isnan(silent.learning_rate)
    assert says(silent, "10 of 10 outputs do not react") and says(silent, "The gradient is 0 up to rounding")
    assert not says(silent, "look the same") and not says(silent, "limits the step")
    assert "DF and all Hessians vanish" in str(silent)


def test_a_narrow_layer_leaves_no_pair_to_blame():
    """Linear in the 64 pixels: 80 images that differ, and no parameters for their combinations."""
    data = pl.datasets.digits(80)
    narrow = pl.diagnose(seeded(lambda: nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 1))), data.inputs, data.targets)
    assert narrow.num_parameters > 80 and narrow.closest_gap > 1e-3
    assert says(narrow, "not resolved") and says(narrow, "No two inputs alone are to blame")


def test_a_large_condition_number_and_the_pair_behind_it(report):
    smallest = report.spectrum.largest / 2000
    poor = with_spectrum(report, smallest=smallest)
    assert says(poor, "condition number is large, 2,000") and not says(report, "is large")
    assert says(report, "resolved, with a condition number of")
    assert not says(poor, "much alike")
    alike = dataclasses.replace(poor, closest_gap=9 * smallest, closest_inputs=(2, 7))
    assert says(alike, f"Inputs 2 and 7 are much alike: they alone keep lambda_min below {words.number(9 * smallest, 2)}")


def test_strong_and_weak_directions(report):
    largest = report.spectrum.largest
    weak, strong = "residual lies mostly along weak directions", "Strong directions of K take part in the residual"
    for share, where, other in ((0.099, weak, strong), (0.101, strong, weak)):
        changed = dataclasses.replace(report, pl_ratio=share * largest)
        taken = words.number(100 * report.step_size * share * largest, 2)
        assert says(changed, where) and says(changed, f"takes off at least about {taken}% of the loss")
        assert not says(changed, other)
    stuck = dataclasses.replace(report, pl_ratio=report.spectrum.error)
    assert says(stuck, "The gradient is 0 up to rounding") and not says(report, "gradient is 0")


def test_the_steps_to_a_tenth_of_the_loss(report):
    changed = dataclasses.replace(report, mu=0.5, rate=1 - 1e-4)
    # ln 10 / 1e-4 = 23,026
    assert says(changed, "at most about 20,000 such steps for each factor of 10")
    assert 0.9999**20_000 < 0.15 and says(report, "In the end") == 1
    assert not says(dataclasses.replace(report, mu=0.0, rate=1.0), "In the end")


def test_the_steps_that_theory_expects_are_those_of_descent_on_a_linear_network():
    """F is linear and the residual is an eigenvector for lambda_min: the loss falls by (1 - eta lambda_min)^2 a step."""
    module = seeded(lambda: nn.Linear(6, 1, bias=False))
    inputs = randn(3, 6)
    system = pl.NetworkSystem(module, inputs, [0.0, 0.0, 0.0])
    values, vectors = torch.linalg.eigh(pl.tangent_kernel(system))
    targets = system.value(system.start) - vectors[:, 0]
    report = pl.diagnose(module, inputs, targets)
    losses = pl.gradient_descent(pl.NetworkSystem(module, inputs, targets), step_size=report.step_size, max_steps=1).losses
    assert losses[1] / losses[0] == pytest.approx((1 - report.step_size * values[0].item()) ** 2, rel=1e-9)
    assert losses[1] / losses[0] <= report.rate and report.pl_ratio == pytest.approx(values[0].item(), rel=1e-9)


def test_curvature_or_slope(report):
    for curvature, text, other in ((1.01, "Curvature keeps the step", "The slope"), (0.99, "The slope of F", "Curvature")):
        bound = curvature * report.constants.jacobian_norm**2 / report.residual_norm
        changed = dataclasses.replace(report, constants=dataclasses.replace(report.constants, hessian_bound=bound))
        assert says(changed, text) and not says(changed, other)
        assert says(changed, "2 times as long") == (curvature > 1)


def test_nothing_is_left_to_optimize(fitted, report):
    system, near, solution = fitted
    done = at(system, solution)
    assert says(done, "nothing is left to optimize") and says(done, "Certified")
    assert not says(done, "In the end") and not says(done, "limits the step") and not says(done, "Curvature")
    assert not says(at(system, near), "nothing is left") and not says(report, "nothing is left")
    exact = pl.diagnose(nn.Linear(2, 1, bias=False), torch.eye(2), torch.zeros(2))
    assert not says(exact, "nothing is left")
    zero = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(zero.weight)
    exact = pl.diagnose(zero, torch.eye(2), torch.zeros(2))
    assert exact.loss == 0 and exact.pl_ratio == math.inf and says(exact, "nothing is left") and str(exact)


def test_why_there_is_no_certificate(report, fitted):
    h = report.kantorovich_number
    assert says(report, f"a residual about {words.number(2 * h, 1)} times smaller would do")
    assert not says(report, "Certified")
    unknown = pl.diagnose(seeded(FOREIGN["LayerNorm"]), DIGITS.inputs, DIGITS.targets)
    assert says(unknown, "bounds do not cover this network: 1 is a LayerNorm")
    assert not says(at(fitted[0], fitted[1]), "certificate")
    status = dataclasses.replace(report.certificate, status="fails: for another reason")
    failed = dataclasses.replace(report, certificate=status, kantorovich_number=0.1)
    assert says(failed, "No certificate: for another reason.")
    assert not says(dataclasses.replace(failed, kantorovich_number=0.5), "another reason")


@pytest.mark.parametrize(
    "x, digits, text",
    [
        (0.0, 3, "0"), (math.inf, 3, "inf"), (0.012345, 3, "0.0123"), (21.0, 3, "21"), (999.6, 2, "1,000"), (99.6, 2, "100"),
        (12345.6, 2, "12,000"), (9_999_999, 3, "1e+07"), (-1234.0, 2, "-1,200"), (1e-9, 1, "1e-09"),
    ],
)
def test_numbers_in_words(x, digits, text):
    assert words.number(x, digits) == text


# Printed and drawn


@pytest.mark.parametrize("name", LARGER)
def test_the_report_fits_a_terminal(name):
    module = seeded(LARGER[name])
    report = pl.diagnose(module, ONE_HOT.inputs[:2], ONE_HOT.targets[:2])
    text = str(report)
    assert text == repr(report) and max(map(len, text.splitlines())) <= 100
    sizes = f"20 equations (2 inputs x 10 outputs), {report.num_parameters:,} parameters: over-parameterized"
    assert text.startswith(f"{type(module).__name__}: {sizes}")
    # The lines of the table are aligned.
    table = text.split("\n\n")[1].splitlines()
    remarks = ("1/2 |F", "condition", "1/2 |grad", "the same step")
    starts = {line.index(remark) for line in table for remark in remarks if remark in line}
    assert len(starts) == 1 and all(line[26:28] == "  " != line[28:30] for line in table if line[2] != " ")
    assert 2 <= len(report.limits) <= 5
    assert all(" ".join(sentence.split()) in " ".join(text.split()) for sentence in report.limits)


def test_the_report_as_a_table(report):
    page = dataclasses.replace(report, name="a<b>&c")._repr_html_()
    assert "a&lt;b&gt;&amp;c" in page and "<b>" not in page
    assert page.count("<tr ") == page.count("</tr>") == 10 and page.count("<li>") == len(report.limits)
    assert "PL ratio" in page and f">{words.number(report.pl_ratio)}</td>" in page
    assert "&lt; 1/2" in page


def test_the_figure_is_that_of_the_package(report):
    assert isinstance(report.figure(), Figure)


def test_a_guarantee_is_printed_as_one(report):
    descent = DescentGuarantee(0.1, 0.9, 1.0, 1.0)
    certificate = dataclasses.replace(report.certificate, holds=True, status="holds: yes", radius=0.1, descent=descent)
    certified = dataclasses.replace(report, certificate=certificate, step_rigour="verified", rate=0.9)
    assert "guaranteed (verified)" in str(certified) and "guaranteed" not in str(report)
