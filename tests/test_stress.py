"""What `make stress` leaves in git, and that it says no."""

import json
from dataclasses import replace

import near_duplicates
import pytest
import run_stress


def shortcomings(name, record):
    """Why a record does not show that all cases of a suite passed."""
    found = [] if record["cases"] == len(run_stress.SUITES[name].SEEDS) else ["not all cases"]
    return found + (["failures"] if record["failures"] else [])


def stored(name):
    return json.loads((run_stress.RECORDS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", run_stress.SUITES)
def test_the_record_in_git_shows_that_all_cases_passed(name):
    assert shortcomings(name, stored(name)) == []


def test_near_duplicates_ran_a_thousand_cases():
    record = stored("near_duplicates")
    assert record["cases"] == sum(row["cases"] for row in record["resolved by ratio"].values()) == 1000


def test_verified_eigenvalues_ran_a_thousand_cases():
    record = stored("verified_eigenvalues")
    assert record["cases"] == sum(row["cases"] for row in record["kinds"].values()) == 1000
    assert max(row["most rows"] for row in record["kinds"].values()) >= 195


def test_a_short_or_failed_record_is_found():
    record = stored("near_duplicates")
    assert shortcomings("near_duplicates", {**record, "cases": 999})
    assert shortcomings("near_duplicates", {**record, "failures": [{"seed": 1}]})


def test_a_failure_is_recorded_and_ends_the_command(monkeypatch, tmp_path):
    right = near_duplicates.measure(0)
    results = [right, replace(right, seed=1, largest=2 * right.largest)]
    monkeypatch.setattr(run_stress, "RECORDS", tmp_path)
    monkeypatch.setattr(run_stress, "SUITES", {"near_duplicates": near_duplicates})
    monkeypatch.setattr(run_stress, "run", lambda name, suite: results)
    with pytest.raises(SystemExit, match="3 failures"):
        run_stress.main(["near_duplicates"])
    failures = json.loads((tmp_path / "near_duplicates.json").read_text(encoding="utf-8"))["failures"]
    assert [failure["seed"] for failure in failures] == [1, 1, 1]  # one for each route
