#!/usr/bin/env python3
"""What the server costs beside its networks: a call, a plan of a long line, an admission test of it.

    python3 tools/bench/calls.py

Runs calls_benchmark, plan_benchmark and admission_benchmark. CPU time, so that a busy machine disturbs little; the
benchmarks' heads say what is counted.
"""
import argparse
import json
import os
import statistics
import subprocess

import results


def calls(a, report):
    words = ["20", "2", "1"] if a.quick else ["1000", str(a.steps), "1"]

    def run(*more):
        return json.loads(subprocess.run([os.path.join(a.bin, "calls_benchmark"), *words, *more],
                                         stdout=subprocess.PIPE, check=True).stdout)

    runs, copied = zip(*((run(), run("copied")["ours_ms"]) for _ in range(1 if a.quick else a.turns)))
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    report.row("unary call, 512x512 PNG in and out, networks and codecs left out: CPU",
               middle["ours_ms"], 0.5, "ms",
               note=f"{words[0]} calls of {words[1]} steps; {min(run['ours_ms'] for run in runs):.2f} to "
                    f"{max(run['ours_ms'] for run in runs):.2f} in {len(runs)} turns; "
                    f"left out: codecs {middle['codecs_ms']:.2f}, the runner {middle['runner_ms']:.2f}; counted: "
                    f"{middle['grpc_ms']:.2f}, which a bare gRPC server takes for the same messages; with codecs "
                    f"that only copy, and leave it the caches, {statistics.median(copied):.2f}")


def slowest_case(a, program, pattern):
    """Milliseconds of CPU, and the case's name: the slowest of those at 10,000 samples, each the median of its turns."""
    done = subprocess.run(
        [os.path.join(a.bin, program), f"--benchmark_filter={pattern}", "--benchmark_format=json",
         f"--benchmark_repetitions={1 if a.quick else a.turns}", f"--benchmark_min_time={0.001 if a.quick else 0.2}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    times = {}
    for run in json.loads(done.stdout)["benchmarks"]:
        if run["run_type"] == "iteration":
            times.setdefault(run["name"], []).append(run["cpu_time"] / 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    worst = max(medians, key=medians.get)
    return medians[worst], f"{worst}, the slowest of {len(medians)} cases, median of {len(times[worst])}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_flags(parser)
    parser.add_argument("--steps", type=int, default=50, help="of a call: the server's default")
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()
    report = results.Results(a.json, a.quick)
    calls(a, report)
    for what, program, pattern, limit in (
            ("`Plan()` with 10,000 waiting samples", "plan_benchmark", "BM_Plan/10000", 1),
            ("admission test with 10,000 waiting samples", "admission_benchmark", "line:10000", 0.2)):
        measured, note = slowest_case(a, program, pattern)
        report.row(what, measured, limit, "ms", note=note)
    report.end()


if __name__ == "__main__":
    main()
