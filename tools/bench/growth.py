#!/usr/bin/env python3
"""How a UNet step grows with its rows: tools/bench/growth.py [--model out/full-size --side 256 --dtype bf16]

Steps of 1 to 8 rows, unlike samples, in turn; a line is fitted through each number of rows' fastest step. Growth is
linear where the largest residual is small beside the line: no number of rows costs more than its share.
"""
import argparse
import os

import paced
import results

ROWS = range(1, 9)


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
    wall, cpu = {}, {}
    with paced.networks(a, a.model, f"--dtype={a.dtype}", f"--threads={a.threads}") as networks:
        for turn in range(2 if a.quick else 1 + a.rounds):
            for rows in ROWS:
                many = f"{rows}-" if rows > 1 else ""
                took = networks.run(f"unet/{many}unguided/{a.side}x{a.side}")
                if turn > 0:   # the first makes what is kept
                    for fastest, seconds in zip((wall, cpu), took):
                        fastest[rows] = min(seconds, fastest.get(rows, seconds))
    (residual, worst), (of_cpu, _) = largest_residual(wall), largest_residual(cpu)
    begin, slope = line_through(wall.items())
    report.row(f"step of 1 to 8 rows, {a.model} {a.side}x{a.side} {a.dtype}: off a line by",
               100 * residual, 5, "%",
               note=f"at most, at {worst} rows; {1e3 * begin:.1f} + {1e3 * slope:.1f} ms per row; of CPU time "
                    f"{100 * of_cpu:.1f} %")
    report.end()


if __name__ == "__main__":
    main()
