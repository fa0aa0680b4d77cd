"""python -m benchmarks kernel [--rounds N] [--only W1 W5 ...], python -m benchmarks hessian [--rounds N] [--only H1 ...]"""

import argparse
import sys

from benchmarks import hessian, kernel, tables
from benchmarks.reference import Inaccurate

COMMANDS = {
    "kernel": ("the tangent kernel", kernel.run, kernel.PARTS),
    "hessian": ("the spectral norms of the equations' Hessians", hessian.run, list(hessian.WORKLOADS)),
}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure plbook against its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (what, _, parts) in COMMANDS.items():
        command = commands.add_parser(name, help=f"{what}; the record goes to benchmarks/results/{name}.json")
        command.add_argument("--rounds", type=int, default=7, help="interleaved rounds; 7 unless told")
        command.add_argument("--only", nargs="+", choices=parts, help="measure these parts and keep the rest of the record")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    try:
        record = COMMANDS[options.command][1](options.rounds, options.only)
    except (Inaccurate, ValueError) as error:
        sys.exit(f"Stopped: {error}")
    if options.command == "hessian":
        print_table(tables.hessian_workload_table(record))
        print_table(tables.hessian_table(record))
        print("\n".join(tables.hessian_sentences(record)))
        return
    print_table(tables.workload_table(record))
    print_table(tables.kernel_table(record, "float64"))
    print_table(tables.kernel_table(record, "float32"))
    print_table(tables.exponent_table(record))
    print_table(tables.memory_table(record))
    print("\n".join(tables.sentences(record)))


def print_table(rows):
    if not rows:
        return
    cells = [["; ".join(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    print("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
