"""The record as tables, for the terminal and for the status page."""

from decimal import Decimal
from statistics import median

WORKLOADS = ("W1", "W2", "W3", "W4", "W5")


def kernel_table(record, dtype):
    """Rows of cells, the header first; a cell is a list of short texts. In float64 plbook's row comes first."""
    parts = _measured(record)
    owns = [part["implementations"] for part in parts.values()]
    names = dict.fromkeys(name for own in owns for name in own if dtype in own[name])
    rows = [[[dtype], *([name] for name in parts)]]
    for name in names:
        rows.append([[name], *(_cell(part["implementations"].get(name, {}).get(dtype)) for part in parts.values())])
    return rows


def _measured(record):
    return {name: record["parts"][name] for name in WORKLOADS if name in record["parts"]}


def _cell(entry):
    if entry is None:
        return ["not measured"]
    if "seconds" not in entry:
        return [entry["stopped"]]
    cell = [f"{number(entry['seconds'])} s"]
    if "ratio" in entry:
        low, middle, high = (number(value) for value in entry["ratio"])
        spread = f" ({low} to {high})" if entry["rounds"] > 1 else ""
        cell.append(f"{middle} x plbook{spread}")
    cell.append(f"{entry['peak_mb']:,.0f} MB")
    return cell + (["1 round"] if entry["rounds"] == 1 else [])


def number(value):
    """Three significant digits, never in powers of ten."""
    return f"{Decimal(f'{value:.3g}'):,f}"


def sentences(record):
    """What the tables do not say: where, when, how exact, how near to the machine's limit, what is missing."""
    parts = _measured(record)
    owns = [own for part in parts.values() for own in part["implementations"].values()]
    errors = {
        dtype: max((own[dtype]["error"] for own in owns if "error" in own.get(dtype, {})), default=0)
        for dtype in ("float64", "float32")
    }
    losses = [entry["smallest_eigenvalue_error"] for own in owns for entry in own.values() if "smallest_eigenvalue_error" in entry]
    shares = [part["implementations"]["plbook"]["float64"]["gemm_fraction"] for part in parts.values()]
    yield _circumstances(record, parts)
    yield (
        f"The largest error of a float64 kernel, relative to its largest entry, is {errors['float64']:.1g}; no time counts "
        f"above 1e-10. In float32 it is {errors['float32']:.1g}"
        + (f", and the smallest eigenvalue is off by {median(losses):.1g} of itself in the median" if losses else "")
        + "."
    )
    yield (
        "plbook runs at "
        + ", ".join(f"{100 * share:.0f}% ({name})" for name, share in zip(parts, shares))
        + " of the speed of a float64 matrix product measured in the same rounds."
    )
    for name, part in parts.items():
        if "neural_tangents_missing" in part:
            yield f"neural-tangents is missing in {name}: {part['neural_tangents_missing']}."


def _circumstances(record, parts):
    machine, dates = record["machine"], sorted({part["date"] for part in record["parts"].values()})
    rounds = sorted({part["rounds"] for part in parts.values()})
    return (
        f"Measured on {' and '.join(dates)} on a machine with {machine['cores']} cores ({machine['processor']}) and "
        f"{machine['memory_gib']} GiB of memory, {record['threads']} threads, {' or '.join(map(str, rounds))} interleaved "
        f"round(s): {', '.join(f'{name} {version}' for name, version in record['versions'].items())}."
    )


def hessian_table(record):
    """The times of Hessian norms: a row for each implementation, a column for each workload."""
    parts = record["parts"]
    names = dict.fromkeys(name for part in parts.values() for name in part["implementations"])
    rows = [[["float64"], *([name] for name in parts)]]
    for name in names:
        rows.append([[name], *(_cell(part["implementations"].get(name)) for part in parts.values())])
    return rows


def hessian_workload_table(record):
    rows = [[["workload"], ["network"], ["n"], ["outputs"], ["parameters"]]]
    for name, part in record["parts"].items():
        rows.append([[text] for text in (name, part["description"], *(f"{part[key]:,}" for key in ("n", "outputs", "parameters")))])
    return rows


def hessian_sentences(record):
    """Where, when, how exact, and what is missing."""
    parts = record["parts"]
    owns = [own for part in parts.values() for own in part["implementations"].items()]
    errors = [max((own["error"] for name, own in owns if (name == "plbook") == ours and "error" in own), default=0) for ours in (True, False)]
    yield _circumstances(record, parts)
    yield (
        f"Everyone is asked for {100 * next(iter(parts.values()))['tolerance']:g}%, and no time counts above that. The largest "
        f"relative error of a norm is {errors[0]:.1g} with plbook and {errors[1]:.1g} with the others."
    )
    for name, part in parts.items():
        if part["eigsh_tolerance"] < part["tolerance"]:
            yield f"In {name} eigsh is asked for {100 * part['eigsh_tolerance']:g}%: asked for less it ends at an inner eigenvalue."
        if "curvlinops_missing" in part:
            yield f"curvlinops is missing in {name}: {part['curvlinops_missing']}."


def workload_table(record):
    parts = _measured(record)
    rows = [[["workload"], ["network"], ["n"], ["outputs"], ["parameters"], ["GFLOP"]]]
    for name, part in parts.items():
        counts = [f"{part[key]:,}" for key in ("n", "outputs", "parameters")]
        rows.append([[text] for text in (name, part["description"], *counts, number(part["gflop"]))])
    return rows


def exponent_table(record):
    """The growth of plbook's time; empty if it was not measured."""
    rows = [[["in the"], ["sizes"], ["seconds"], ["exponent"], ["operations"]]]
    for name in ("inputs", "width"):
        if "exponents" in record["parts"]:
            series = record["parts"]["exponents"][name]
            sizes, seconds = (", ".join(map(text, series[key])) for key, text in (("sizes", str), ("seconds", number)))
            slopes = [[f"{series[key]:.2f}"] for key in ("exponent", "theory")]
            rows.append([[f"{name} ({series['network']})"], [sizes], [seconds], *slopes])
    return rows if len(rows) > 1 else []


def memory_table(record):
    """plbook's memory beside its bound; empty if it was not measured."""
    if "memory" not in record["parts"]:
        return []
    rows = [[["kernel"], ["budget"], ["tiles a side"], ["one tile"], ["activations"], ["bound"], ["peak"]]]
    for name, entry in record["parts"]["memory"]["cases"].items():
        cell = [f"{name}: {entry['n']:,} inputs, {entry['network']}"]
        sizes = [[f"{number(entry[key])} MB"] for key in ("tile_mb", "activations_mb", "bound_mb", "peak_mb")]
        rows.append([cell, [f"{number(entry['budget_mb'])} MB"], [str(entry["tiles_a_side"])], *sizes])
    return rows


def memory_sentence(record):
    """The spectrum of the largest kernel."""
    large = record["parts"]["memory"]["large"]
    verdict = "resolved" if large["resolved"] else "not resolved"
    return (
        f"The spectrum of {large['n']:,} equations ({large['n']:,} random inputs, one hidden layer of {large['width']:,}) took "
        f"{number(large['seconds'])} s and {number(large['process_mb'] / 1000)} GB in all: eigenvalues from "
        f"{large['smallest']:.3g} to {large['largest']:.3g}, error bar {large['error']:.2g}, {verdict}."
    )
