"""The benchmarks' pure parts, and what they recorded. Nothing is timed, and neural-tangents is not needed."""

import copy
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import status_page
import torch

import plbook as pl
from benchmarks import (
    environment,
    exponents,
    kernel,
    record,
    reference,
    rounds,
    serving,
    tables,
    torch_worker,
    workers,
    workloads,
)
from benchmarks.candidates import CANDIDATES, PLBOOK, Ready
from benchmarks.operations import kernel_operations
from benchmarks.workloads import WORKLOADS, Workload
from plbook import reference as slow_twin

SMALL = [
    Workload("one output", 5, (6, 4)),
    Workload("outputs", 3, (5, 4, 6), outputs=10),
    Workload("images", 3, (2, 3), kind="conv"),
]


def by_name(workload):
    return workload.name


def twin_of(workload):
    system = pl.NetworkSystem(workload.network(), workload.inputs(), workload.targets())
    return slow_twin.tangent_kernel(system, system.start).numpy()


# The reference and its gate


@pytest.mark.parametrize("workload", SMALL, ids=by_name)
def test_the_reference_is_the_kernel(workload):
    assert reference.relative_error(reference.exact_kernel(workload), twin_of(workload)) < 1e-13


@pytest.mark.parametrize("workload", SMALL[:2], ids=by_name)
def test_the_formula_is_the_kernel(workload, monkeypatch):
    monkeypatch.setattr(reference, "JACOBIAN_BYTES", 0)
    assert reference.relative_error(reference.exact_kernel(workload), twin_of(workload)) < 1e-13


def test_the_gate_accepts_rounding_and_refuses_an_error():
    exact = twin_of(SMALL[0])
    largest = np.abs(exact).max()
    assert reference.check("rounded", exact * (1 + 1e-15), exact) < 1e-14
    off = exact.copy()
    off[1, 0] += 1e-9 * largest
    with pytest.raises(reference.Inaccurate, match="off by 1e-09"):
        reference.check("off", off, exact)
    off[1, 0] = np.nan
    with pytest.raises(reference.Inaccurate, match="nan"):
        reference.check("not a number", off, exact)


def test_float32_has_no_bar():
    exact = np.diag([1.0, 1e-9])
    kernel32 = exact.astype(np.float32) + np.float32(1e-6)
    assert reference.check("float32", kernel32, exact) == pytest.approx(1e-6, rel=0.1)
    assert reference.smallest_eigenvalue_error(exact, exact) == 0
    # The exact eigenvalue is that of [[1 + e, e], [e, 1e-9 + e]] with e = 1e-6: about 1.001e-6 - 1e-12.
    assert reference.smallest_eigenvalue_error(kernel32, exact) == pytest.approx(1e-6 / 1e-9, rel=0.2)


# What goes to the workers


@pytest.mark.parametrize("workload", SMALL, ids=by_name)
def test_a_workload_travels_whole(workload, tmp_path):
    path = tmp_path / "workload.npz"
    workloads.save(workload, path)
    network, inputs, targets = workloads.load(workloads.fields(workload), path, torch.float64)
    assert torch.equal(inputs, workload.inputs()) and torch.equal(targets, workload.targets())
    assert torch.equal(network(inputs), workload.network()(workload.inputs()))


@pytest.mark.parametrize("method", ["jacobian product", "jacobian contraction", "vector products", "plbook"])
def test_a_worker_computes_the_kernel(method, tmp_path):
    path, result = tmp_path / "workload.npz", tmp_path / "kernel.npy"
    for workload in SMALL:
        workloads.save(workload, path)
        torch_worker.load(method, workloads.fields(workload), path, "float64")
        assert serving.call() > 0
        torch_worker.save(result)
        assert reference.check(method, np.load(result), twin_of(workload)) < 1e-13


# Workers are watched


def test_a_worker_answers_until_an_error():
    worker = workers.Worker("torch_worker")
    worker.ask("load_gemm")
    assert worker.ask("call") > 0
    assert worker.peak_bytes() > 10**7
    with pytest.raises(workers.Stopped, match="float65"):
        worker.ask("load", method="plbook", workload=workloads.fields(SMALL[0]), path="nowhere", dtype="float65")
    assert worker.process.returncode is not None
    worker.close()  # once more does no harm


def test_a_worker_is_stopped_at_its_limits(monkeypatch):
    with pytest.raises(workers.Stopped, match="over 0 s"):
        workers.Worker("torch_worker").ask("load_gemm", seconds=0)
    monkeypatch.setattr(workers, "LIMIT_BYTES", 0)
    with pytest.raises(workers.Stopped, match="over 0 GB"):
        workers.Worker("torch_worker").ask("load_gemm")


def test_a_worker_that_does_not_start_is_stopped_with_its_words():
    with pytest.raises(workers.Stopped, match="exit status 1: .*no_such_worker"):
        workers.Worker("no_such_worker").ask("call")


# Rounds


def test_each_round_begins_with_the_next_one():
    assert [rounds.rotated("abc", turn) for turn in range(4)] == ["abc", "bca", "cab", "abc"]


def test_rounds_are_interleaved_and_forget_what_was_stopped(monkeypatch):
    monkeypatch.setattr(rounds, "PAUSE_SECONDS", 0)
    order = []

    def measure(name):
        order.append(name)
        if name == "c":
            raise workers.Stopped("over 200 s")
        return float(len(order))

    measures = {name: lambda name=name: measure(name) for name in "abc"}
    seconds, stopped = rounds.run_rounds(measures, 3)
    assert "".join(order) == "abc" + "ba" + "ab"
    assert seconds == {"a": [1, 5, 6], "b": [2, 4, 7], "c": []}
    assert stopped == {"c": "over 200 s"}


def test_ratios_and_quartiles():
    assert rounds.ratios([2.0, 6.0, 20.0], [1.0, 2.0, 5.0]) == [2, 3, 4]
    assert rounds.quartiles([4.0, 2.0, 3.0]) == [2.5, 3, 3.5]
    assert rounds.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2, 3, 4]
    assert rounds.quartiles([7.0]) == [7, 7, 7]


def test_slow_ones_are_not_timed_again():
    seconds = {"J J^T": 90, "Jacobian contraction": 95, "structured derivatives": 3, "NTK-vector products": 59}
    ready = {(c, "float64"): Ready(None, seconds.get(c.title, 1), {}) for c in CANDIDATES}
    assert {f"{c.package} {c.title}" for c, _ in kernel.slow(ready)} == {
        "torch.func Jacobian contraction",
        "neural-tangents Jacobian contraction",
    }
    fast = {key: replace(entry, seconds=entry.seconds / 100) for key, entry in ready.items()}
    assert kernel.slow(fast) == set()


def test_a_summary_of_times_made_by_hand():
    workload, product = SMALL[0], CANDIDATES[1]
    flops = kernel_operations(workload)
    seconds = {(PLBOOK, "float64"): [1.0, 2.0, 1.0], (product, "float64"): [3.0, 4.0, 5.0], (product, "float32"): []}
    seconds["gemm"] = [2 * kernel.GEMM_OPERATIONS / flops] * 3  # half of plbook's best speed
    entries = [(PLBOOK, "float64"), (product, "float64"), (product, "float32")]
    found = kernel.summary(workload, {(product, "float64"): {"error": 0.0}}, seconds, {entries[2]: "over 16 GB"}, entries)
    ours, theirs = found["implementations"].values()
    assert ours["float64"]["seconds"] == 1 and ours["float64"]["gemm_fraction"] == pytest.approx(2)
    assert theirs["float64"]["ratio"] == [2.5, 3, 4] and theirs["float64"]["rounds"] == 3
    assert theirs["float32"] == {"stopped": "over 16 GB"}


# Operations and exponents


def test_operations_of_a_linear_model_by_hand():
    # Forward 2 n d; for 6 pairs of 3 inputs both products, 2 d and 2, and the entrywise product, 2.
    assert kernel_operations(Workload("linear", 3, ())) == 2 * 3 * 64 + 6 * (2 * 64 + 2 + 2)


def test_operations_of_one_convolution_by_hand():
    # 64 positions, rows of 9 numbers, 2 channels, then a Linear layer on 2 numbers; gradients are the cheaper way.
    convolution = 2 * 3 * 64 * 9 * 2 + 2 * 3 * 64 * 9 * 2 + 6 * 2 * 9 * 2
    linear = 2 * 3 * 2 * (1 + 1) + 2 * 3 * 2 + 6 * 2 * 2
    assert kernel_operations(Workload("image", 3, (2,), kind="conv")) == convolution + linear


def test_operations_grow_as_the_theory_says():
    wide = [kernel_operations(Workload("", 10, (width,) * 3)) for width in (10**5, 10**6)]
    many = [kernel_operations(Workload("", n, (16,) * 3)) for n in (10**5, 10**6)]
    assert exponents.slope([1, 10], wide) == pytest.approx(2, abs=0.01)
    assert exponents.slope([1, 10], many) == pytest.approx(2, abs=0.01)


def test_a_slope_of_a_power_law():
    assert exponents.slope([1, 2, 4], [3.0, 3 * 2**1.5, 3 * 4**1.5]) == pytest.approx(1.5)


# The environment of neural-tangents


def test_a_python_too_new_is_refused(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 13, 0))
    with pytest.raises(environment.Unavailable, match="3.9 to 3.12, this is 3.13"):
        environment.NEURAL_TANGENTS.python()


def test_its_packages_are_pinned():
    pins = environment.NEURAL_TANGENTS.pins()
    assert {"neural-tangents", "jax", "jaxlib", "numpy"} <= set(pins) and all(pins.values())


# The record


@pytest.fixture(scope="module")
def stored():
    return record.load("kernel")


def test_every_workload_and_implementation_is_recorded(stored):
    assert set(stored["parts"]) == {*WORKLOADS, "exponents", "memory"}
    for name in WORKLOADS:
        found = {(title, dtype) for title, own in stored["parts"][name]["implementations"].items() for dtype in own}
        assert found == {(c.name, dtype) for c in CANDIDATES for dtype in c.dtypes}, name


def test_recorded_numbers_agree_with_each_other(stored):
    for name in set(WORKLOADS) & set(stored["parts"]):
        part = stored["parts"][name]
        base = part["implementations"]["plbook"]["float64"]["seconds_by_round"]
        assert part["gflop"] == pytest.approx(kernel_operations(WORKLOADS[name]) / 1e9, rel=0.01)
        for own in part["implementations"].values():
            for dtype, entry in own.items():
                assert "seconds" in entry or entry["stopped"]
                if "seconds" in entry:
                    # Each number is rounded to 3 digits, so a ratio of two is known to about 1%.
                    assert entry["seconds"] == pytest.approx(median(entry["seconds_by_round"]), rel=0.01)
                    expected = rounds.quartiles(rounds.ratios(entry["seconds_by_round"], base))
                    assert entry.get("ratio", [1, 1, 1]) == pytest.approx(expected, rel=0.02)
                    assert entry["error"] <= (reference.TOLERANCE if dtype == "float64" else 1)


# How many times plbook's time the Jacobian product of torch.func and neural-tangents' fastest take at least, in the
# median; in W3 the first is out of memory.
PROMISES = {"W1": (30, 1.3), "W2": (150, 1.3), "W3": (None, 1.2), "W4": (170, 1.1), "W5": (1, 1)}


def broken_promises(parts):
    found = []
    for name, (product, tangents) in PROMISES.items():
        own = {title: entries["float64"] for title, entries in parts[name]["implementations"].items()}
        ratio = {title: entry["ratio"][1] for title, entry in own.items() if "ratio" in entry}
        if product is None and own["torch.func, J J^T"].get("stopped") != "over 16 GB":
            found.append(f"{name}: torch.func has enough memory")
        if product is not None and ratio["torch.func, J J^T"] < product:
            found.append(f"{name}: torch.func")
        if min(value for title, value in ratio.items() if title.startswith("neural-tangents")) < tangents:
            found.append(f"{name}: neural-tangents")
        if min(own[title]["rounds"] for title in ("plbook", "neural-tangents, structured derivatives")) < 7:
            found.append(f"{name}: too few rounds")
    if parts["W3"]["implementations"]["plbook"]["float64"]["gemm_fraction"] < 0.5:
        found.append("W3: below half of the peak")
    for name, entry in parts["memory"]["cases"].items():
        if entry["peak_mb"] > entry["bound_mb"]:
            found.append(f"memory: {name}")
    if parts["memory"]["cases"]["width 4,096"]["process_mb"] > 6000 or parts["memory"]["large"]["process_mb"] > 24_000:
        found.append("memory: a whole process")
    return found


def test_the_record_keeps_what_was_promised(stored):
    assert broken_promises(stored["parts"]) == []


def test_a_broken_promise_is_found(stored):
    parts = copy.deepcopy(stored["parts"])
    parts["W1"]["implementations"]["torch.func, J J^T"]["float64"]["ratio"][1] = 29.9
    parts["W5"]["implementations"]["neural-tangents, structured derivatives"]["float64"]["ratio"][1] = 0.99
    parts["W4"]["implementations"]["plbook"]["float64"]["rounds"] = 6
    parts["memory"]["cases"]["convolutions"]["peak_mb"] = 1e6
    expected = ["W1: torch.func", "W4: too few rounds", "W5: neural-tangents", "memory: convolutions"]
    assert sorted(broken_promises(parts)) == sorted(expected)


def test_records_of_two_machines_are_not_mixed(stored):
    other = copy.deepcopy(stored)
    other["parts"] = {"W1": {"date": "today"}}
    assert record.merged(stored, other)["parts"]["W1"] == {"date": "today"}
    other["machine"]["cores"] += 1
    with pytest.raises(ValueError, match="without --only"):
        record.merged(stored, other)


def test_numbers_are_rounded_to_three_digits():
    assert record.rounded({"a": [1.23456, 12345.0], "b": 12345}) == {"a": [1.23, 12300], "b": 12345}


# The tables


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0130, "0.013"), (0.000012345, "0.0000123"), (1.5, "1.5"), (45.27, "45.3"), (1234.5, "1,230"), (3.0, "3"), (0.99999, "1")],
)
def test_numbers_in_tables(value, text):
    assert tables.number(value) == text


def test_the_status_page_has_every_row(stored):
    page = status_page.kernel_benchmarks(stored)
    for candidate in CANDIDATES:
        assert sum(line.startswith(f"| {candidate.name} |") for line in page) == len(candidate.dtypes), candidate.name
    text = "\n".join(page)
    assert stored["machine"]["processor"] in text and "float64 matrix product" in text


def test_the_status_page_says_what_was_not_measured(stored):
    without = copy.deepcopy(stored)
    without["parts"]["W1"]["neural_tangents_missing"] = "no network"
    del without["parts"]["exponents"], without["parts"]["memory"]
    own = without["parts"]["W1"]["implementations"]
    del own["torch.func, J J^T"]
    for name in [name for name in own if name.startswith("neural-tangents")]:
        del own[name]
    page = "\n".join(status_page.kernel_benchmarks(without))
    assert "neural-tangents is missing in W1: no network." in page
    assert "| torch.func, J J^T | not&nbsp;measured |" in page
    assert "exponent" not in page and "activations" not in page
    without["parts"] = {"W1": without["parts"]["W1"]}
    assert "| neural-tangents" not in "\n".join(status_page.kernel_benchmarks(without))
