#!/usr/bin/env python3
"""How a UNet step grows with its rows: tools/bench/growth.py [--model out/full-size --side 256 --dtype bf16]

Steps of 1 to 8 rows, unlike samples, in turn, each between two steps of four rows: machines change their speed, so what
counts is the share of those. A line is fitted through the medians of all rounds. Growth is linear where the largest
residual is small beside the line: no number of rows costs more than its share.
"""
import argparse
import os
import statistics

import paced
import results

ROWS = range(1, 9)
YARDSTICK = 4   # rows


def line_through(points):
    """(at 0, slope), by least squares."""
    points = list(points)
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    slope = (sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points))
    return mean_y - slope * mean_x, slope


def largest_residual(seconds):
    begin, slope = line_through(seconds.items())
    residual = {rows: abs(second / (begin + slope * rows) - 1) for rows, second in seconds.items()}
    worst = max(residual, key=residual.get)
    return residual[worst], worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_flags(parser)
    parser.add_argument("--model", default="demo/model")
    parser.add_argument("--side", type=int, default=64, help="pixels: the model's own or half of it")
    parser.add_argument("--dtype", default="fp32", choices=["bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=20)
    a = parser.parse_args()
    report = results.Results(a.json, a.quick)
    shares = {rows: [] for rows in ROWS}   # of wall, of CPU seconds
    yardsticks = []
    with paced.networks(a, a.model, f"--dtype={a.dtype}", f"--threads={a.threads}") as networks:

        def step(rows):
            return networks.run(f"unet/{rows}-unguided/{a.side}x{a.side}" if rows > 1 else f"unet/unguided/{a.side}x{a.side}")

        for rows in ROWS:
            step(rows)   # makes what is kept
        for _ in range(1 if a.quick else a.rounds):
            before = step(YARDSTICK)
            for rows in ROWS:
                took, after = step(rows), step(YARDSTICK)
                shares[rows].append([2 * t / (b + e) for t, b, e in zip(took, before, after)])
                yardsticks.append(after[0])
                before = after
    scale = statistics.median(yardsticks)
    wall, cpu = ({rows: scale * statistics.median(share[i] for share in shares[rows]) for rows in ROWS} for i in (0, 1))
    (residual, worst), (of_cpu, _) = largest_residual(wall), largest_residual(cpu)
    begin, slope = line_through(wall.items())
    report.row(f"step of 1 to 8 rows, {a.model} {a.side}x{a.side} {a.dtype}: off a line by",
               100 * residual, 5, "%",
               note=f"at most, at {worst} rows; {1e3 * begin:.1f} + {1e3 * slope:.1f} ms per row; of CPU time "
                    f"{100 * of_cpu:.1f} %")
    report.end()


if __name__ == "__main__":
    main()
