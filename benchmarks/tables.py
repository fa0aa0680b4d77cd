"""The record as tables, for the terminal and for the status page."""

from statistics import median

WORKLOADS = ("W1", "W2", "W3", "W4", "W5")


def kernel_table(record, dtype):
    """Rows of cells, the header first; a cell is a list of short texts. In float64 plbook's row comes first."""
    parts = {name: record["parts"][name] for name in WORKLOADS if name in record["parts"]}
    names = list(dict.fromkeys(name for part in parts.values() for name, own in part["implementations"].items() if dtype in own))
    rows = [[[dtype], *([name] for name in parts)]]
    for name in names:
        rows.append([[name], *(_cell(part["implementations"].get(name, {}).get(dtype)) for part in parts.values())])
    return rows


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
    text = f"{float(f'{value:.3g}'):,f}"
    whole, _, decimals = text.partition(".")
    digits = max(0, 3 - len(whole.replace(",", ""))) if whole != "0" else len(decimals)
    return f"{whole}.{decimals[:digits]}".rstrip("0").rstrip(".")


def sentences(record):
    """What the tables do not say: where, when, how exact, how near to the machine's limit, what is missing."""
    parts = {name: record["parts"][name] for name in WORKLOADS if name in record["parts"]}
    machine, dates = record["machine"], sorted({part["date"] for part in record["parts"].values()})
    rounds = sorted({part["rounds"] for part in parts.values()})
    entries = [(dtype, entry) for part in parts.values() for own in part["implementations"].values() for dtype, entry in own.items()]
    errors = {d: max((e["error"] for dtype, e in entries if dtype == d and "error" in e), default=0) for d in ("float64", "float32")}
    losses = [e["smallest_eigenvalue_error"] for _, e in entries if "smallest_eigenvalue_error" in e]
    shares = [part["implementations"]["plbook"]["float64"]["gemm_fraction"] for part in parts.values()]
    yield (
        f"Measured on {' and '.join(dates)} on a machine with {machine['cores']} cores ({machine['processor']}) and "
        f"{machine['memory_gib']} GiB of memory, {record['threads']} threads, {' or '.join(map(str, rounds))} interleaved "
        f"round(s): {', '.join(f'{name} {version}' for name, version in record['versions'].items())}."
    )
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
    if record["neural_tangents_missing"]:
        yield f"neural-tangents is missing: {record['neural_tangents_missing']}."


def workload_table(record):
    parts = {name: record["parts"][name] for name in WORKLOADS if name in record["parts"]}
    rows = [[["workload"], ["network"], ["n"], ["outputs"], ["parameters"], ["GFLOP"]]]
    for name, part in parts.items():
        facts = [part["description"], f"{part['n']:,}", str(part["outputs"]), f"{part['parameters']:,}", number(part["gflop"])]
        rows.append([[name], *([fact] for fact in facts)])
    return rows


def exponent_table(record):
    """The growth of plbook's time; empty if it was not measured."""
    rows = [[["in the"], ["sizes"], ["seconds"], ["exponent"], ["operations"]]]
    for name in ("inputs", "width"):
        if "exponents" in record["parts"]:
            series = record["parts"]["exponents"][name]
            sizes, seconds = (", ".join(map(text, series[key])) for key, text in (("sizes", str), ("seconds", number)))
            rows.append([[f"{name} ({series['network']})"], [sizes], [seconds], [f"{series['exponent']:.2f}"], [f"{series['theory']:.2f}"]])
    return rows if len(rows) > 1 else []
