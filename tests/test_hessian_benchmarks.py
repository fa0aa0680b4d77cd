"""The Hessian benchmark's pure parts, and what it recorded. Nothing is timed, and curvlinops is not needed."""

import copy
import sys
from statistics import median

import numpy as np
import pytest
import status_page

import plbook as pl
from benchmarks import environment, hessian, hessian_worker, record, reference, rounds, serving, workers, workloads
from benchmarks.hessian import CANDIDATES, PLBOOK, WORKLOADS
from benchmarks.workloads import Workload
from plbook import reference as slow_twin

SMALL = [Workload("ten outputs", 1, (4, 3), outputs=10), Workload("images", 2, (2, 3), kind="conv")]


def by_name(workload):
    return workload.name


def twin_of(workload):
    system = pl.NetworkSystem(workload.network(), workload.inputs(), workload.targets())
    return slow_twin.hessian_norms(system, system.start).numpy()


@pytest.fixture(scope="module", params=SMALL, ids=by_name)
def case(request):
    """(workload, its norms by dense matrices)."""
    return request.param, twin_of(request.param)


def test_the_reference_has_the_norms(case):
    workload, exact = case
    assert reference.check_norms("the reference", reference.exact_hessian_norms(workload), exact) < 1e-7


@pytest.mark.parametrize("method", ["plbook", "forward over reverse", "reverse over reverse"])
def test_a_worker_computes_the_norms(method, case, tmp_path):
    workload, exact = case
    path, result = tmp_path / "workload.npz", tmp_path / "norms.npy"
    workloads.save(workload, path)
    hessian_worker.load(method, workloads.fields(workload), path)
    assert serving.call() > 0
    hessian_worker.save(result)
    assert reference.check_norms(method, np.load(result), exact) <= reference.NORM_TOLERANCE


def test_the_gate_accepts_one_percent_and_no_more():
    exact = np.array([1.0, 2.0])
    assert reference.check_norms("near", np.array([1.0, 1.981]), exact) == pytest.approx(0.0095)
    for norms in ([1.0, 1.97], [1.0, np.nan]):
        with pytest.raises(reference.Inaccurate, match="off by"):
            reference.check_norms("off", np.array(norms), exact)


def test_a_worker_answers_from_its_own_process(tmp_path):
    path, worker = tmp_path / "workload.npz", workers.Worker("hessian_worker", sys.executable)
    workloads.save(SMALL[0], path)
    try:
        ready = hessian._first_calls(PLBOOK, worker, SMALL[0], path, twin_of(SMALL[0]))
        assert ready.seconds > 0 and ready.facts["error"] < 1e-6
        with pytest.raises(reference.Inaccurate, match="ten outputs, plbook"):
            hessian._first_calls(PLBOOK, worker, SMALL[0], path, 1.1 * twin_of(SMALL[0]))
        assert worker.process.returncode is not None
    finally:
        worker.close()


def test_a_summary_of_times_made_by_hand():
    peer, other = CANDIDATES[1:3]
    facts = {PLBOOK: {"error": 0.0}, peer: {"error": 1e-3}}
    found = hessian.summary([PLBOOK, peer, other], facts, {PLBOOK: [1.0, 2.0, 1.0], peer: [3.0, 4.0, 5.0]}, {other: "over 120 s"})
    assert found["plbook"]["seconds"] == 1 and "ratio" not in found["plbook"]
    assert found[peer.name]["ratio"] == [2.5, 3, 4] and found[peer.name]["error"] == 1e-3
    assert found[other.name] == {"stopped": "over 120 s"}


# The environment of curvlinops


def test_its_packages_are_pinned_and_torch_is_the_books():
    pins = environment.CURVLINOPS.pins()
    assert pins["curvlinops-for-pytorch"] == "3.0.1" and all(pins.values())
    assert environment.CURVLINOPS.with_book and not {"torch", "numpy", "scipy"} & set(pins)
    assert environment.CURVLINOPS.folder != environment.NEURAL_TANGENTS.folder


def test_a_python_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 0))
    with pytest.raises(environment.Unavailable, match="3.11 to 3.13, this is 3.9"):
        environment.CURVLINOPS.python()


# The record


@pytest.fixture(scope="module")
def stored():
    return record.load("hessian")


def test_every_implementation_is_recorded(stored):
    assert "H1" in stored["parts"] and set(stored["parts"]) <= set(WORKLOADS)
    for name, part in stored["parts"].items():
        assert set(part["implementations"]) == {candidate.name for candidate in CANDIDATES}, name


def test_recorded_numbers_agree_with_each_other(stored):
    for part in stored["parts"].values():
        base = part["implementations"]["plbook"]["seconds_by_round"]
        for entry in part["implementations"].values():
            assert "seconds" in entry or entry["stopped"]
            if "seconds" in entry:
                # Each number is rounded to 3 digits, so a ratio of two is known to about 1%.
                assert entry["seconds"] == pytest.approx(median(entry["seconds_by_round"]), rel=0.01)
                expected = rounds.quartiles(rounds.ratios(entry["seconds_by_round"], base))
                assert entry.get("ratio", [1, 1, 1]) == pytest.approx(expected, rel=0.02)
                assert entry["error"] <= reference.NORM_TOLERANCE


def broken_promises(parts):
    """At width 1,024 every loop of eigsh takes at least twice plbook's time, in the median of 7 rounds."""
    own = parts["H1"]["implementations"]
    found = [name for name, entry in own.items() if name != "plbook" and entry["ratio"][1] < 2]
    return found + [name for name, entry in own.items() if entry["rounds"] < 7]


def test_the_record_keeps_what_was_promised(stored):
    assert (WORKLOADS["H1"].n, WORKLOADS["H1"].widths) == (20, (1024, 1024))
    assert broken_promises(stored["parts"]) == []


def test_a_broken_promise_is_found(stored):
    parts = copy.deepcopy(stored["parts"])
    parts["H1"]["implementations"]["curvlinops, eigsh"]["ratio"][1] = 1.99
    parts["H1"]["implementations"]["plbook"]["rounds"] = 6
    assert broken_promises(parts) == ["curvlinops, eigsh", "plbook"]


def test_the_status_page_has_every_row(stored):
    page = status_page.hessian_benchmarks(stored)
    for candidate in CANDIDATES:
        assert sum(line.startswith(f"| {candidate.name} |") for line in page) == 1
    assert stored["machine"]["processor"] in "\n".join(page) and "1%" in "\n".join(page)


def test_the_status_page_says_what_was_not_measured(stored):
    without = copy.deepcopy(stored)
    without["parts"]["H3"] = copy.deepcopy(stored["parts"]["H1"])
    without["parts"]["H1"]["curvlinops_missing"] = "no network"
    del without["parts"]["H1"]["implementations"]["curvlinops, eigsh"]
    page = "\n".join(status_page.hessian_benchmarks(without))
    assert "curvlinops is missing in H1: no network." in page
    assert "| curvlinops, eigsh | not&nbsp;measured |" in page
