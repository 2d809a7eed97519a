#!/usr/bin/env python3
"""What the service adds to its model: total time of a single request / the sum of its model stages.

    python3 tools/bench_overhead.py [--requests 50] [--bin build/release/bin]

Requests go one after the other through the real programs with the bundled model; the times are the server's own
(RequestMetrics in the reply). Prints the median ratio and where the rest goes; exits 1 above the limit.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from server_process import running_server

LIMIT = 1.03
MODEL_STAGES = ("embed", "denoise", "latents_decode", "safety")
AROUND = ("queue", "decode", "encode")


def measure(a):
    """The metrics of each request."""
    with running_server(a.bin, a.model) as (_, address), tempfile.TemporaryDirectory() as output:
        for seed in range(a.warm_up + a.requests):
            done = subprocess.run(
                [os.path.join(a.bin, "image-variations"), "vary", a.picture, "-n", str(a.samples), "--steps",
                 str(a.steps), "--seed", str(seed), "--json", "--quiet", "--no-sheet", "-o", output, "--server",
                 address],
                stdout=subprocess.PIPE, check=True, text=True)
            if seed >= a.warm_up:
                yield json.loads(done.stdout.splitlines()[0])["metrics"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--model", default="demo/model")
    parser.add_argument("--picture", default="demo/pictures/penguin.png")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--warm-up", type=int, default=3, help="requests that are not counted")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25)
    a = parser.parse_args()

    seconds = lambda metrics, stage: metrics[f"{stage}_seconds"]
    all_metrics = list(measure(a))
    ratios = [seconds(m, "total") / sum(seconds(m, stage) for stage in MODEL_STAGES) for m in all_metrics]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"{len(ratios)} requests of {a.samples} sample(s), {a.steps} steps: total / model stages = {ratio:.4f}"
          f" (quartiles {low:.4f}, {high:.4f}; limit {LIMIT})")
    for stage in (*MODEL_STAGES, *AROUND, "total"):
        print(f"  {stage:15}{statistics.median(seconds(m, stage) for m in all_metrics) * 1e3:9.2f} ms")
    rest = [seconds(m, "total") - sum(seconds(m, stage) for stage in MODEL_STAGES + AROUND) for m in all_metrics]
    print(f"  {'unaccounted':15}{statistics.median(rest) * 1e3:9.2f} ms")
    sys.exit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    main()
