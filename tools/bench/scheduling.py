#!/usr/bin/env python3
"""What the server promises under load, measured with the real programs and the bundled model.

    python3 tools/bench/scheduling.py [--rows shared,overload,...] [--quick] [--soak-minutes 10]

Prints a Markdown table: what, measured, must reach. Exits 1 if a row is missed.

shared    16 callers with unlike requests: rows in a UNet call on average; no variation's bytes differ
overload  the highest rate that is VALID within two seconds, then turns of 1, 2, 5 and 10 times that rate: goodput
          beside its peak, the time that refusals take, and how far predictions of the finish are off
bytes     eight guided samples in a call: same bytes whatever the company, beside whole batches, in turn;
          full-size-bytes is the same of --full-size, in each of --dtypes
previews  processor time that a preview takes, beside that of a UNet step, from requests with and without in turn
soak      twice the highest valid rate, with callers that leave, pictures that are none, and readers that stop
          reading: memory, files and threads of the server; every request is answered exactly once

--quick does each in seconds, for tests: it tells that everything runs and is answered, not how fast.
"""
import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import paced
from server_process import running_server

PICTURES = ["demo/pictures/penguin.png", "demo/pictures/cactus.png", "demo/pictures/still-life.jpg"]
LATENCY = "2s"   # of the overload rows: target and deadline


class Report:
    def __init__(self):
        self.missed = []
        print("| What | Measured | Must reach |\n|---|---|---|", flush=True)

    def row(self, what, measured, limit, reached):
        print(f"| {what} | {measured} | {limit} |{'' if reached else ' **missed**'}", flush=True)
        if not reached:
            self.missed.append(what)


def bench(a, address, *words, check=True):
    """The JSON of one `image-variations bench`. Its exit status is that of the verdict, which overload is meant to miss.

    At the lowest priority: real callers have machines of their own."""
    program = os.path.join(a.bin, "image-variations")
    done = subprocess.run(["nice", "-n", "19", program, "bench", *words, "--server", address, "--json", "-"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if check and done.returncode not in (0, 1):
        sys.exit(f"bench {' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout)


def wrong_answers(run):
    """Requests of a run without exactly one answer, and variations with other bytes than an equal request's."""
    history = run["history"]
    return sum(history[kind] for kind in
               ("unanswered", "surplus_answers", "mistaken_answers", "differing_variations"))


def endings(run):
    requests = run["requests"]
    return (requests["finished"] + requests["given_up"] + sum(r["count"] for r in requests["refused"].values())
            + sum(requests["failed"].values()))


def shared(a, report):
    with running_server(a.bin, a.model) as (_, address):
        run = bench(a, address, *PICTURES, "--concurrency", "16", "--requests", "32" if a.quick else "400", "-n", "1,2",
                    "--distinct", "16", "--steps", "2,4" if a.quick else "5,10,20", "--sampler",
                    "ddim,euler,pndm,dpmpp-2m", "--guidance-scale", "1,3,5", "--check-bytes")["runs"][0]
    rows = run["rows_per_unet_call"]
    report.row("rows of a UNet call, mean, 16 callers with unlike requests", f"{rows:.1f}", ">= 8", a.quick or rows >= 8)
    report.row(f"variations with other bytes than an equal request's, of {run['history']['compared_variations']}",
               run["history"]["differing_variations"], "0", wrong_answers(run) == 0)


def overload_words(a):
    return [*PICTURES[:2], "--steps", "2,4" if a.quick else "5,10", "--deadline", LATENCY, "--target-latency", LATENCY,
            "--percentile", "50" if a.quick else "90"]


def highest_valid_rate(a, address):
    if a.rate:
        return a.rate
    if a.quick:
        return 20.0
    found = bench(a, address, *overload_words(a), "--find-rate", "--rate", "4", "--duration", "15s")
    if "highest_valid_rate" not in found:
        sys.exit("no rate is valid: is the machine busy?")
    return found["highest_valid_rate"]


def overload(a, report):
    factors = (1, 2, 5, 10)
    runs = {factor: [] for factor in factors}
    with running_server(a.bin, a.model) as (_, address):
        rate = highest_valid_rate(a, address)
        # In turn, so that what else the machine does meets all alike.
        rates = [f"{rate * factor:g}" for factor in factors] * (1 if a.quick else a.turns)
        measured = bench(a, address, *overload_words(a), "--rate", ",".join(rates), "--duration",
                         "1s" if a.quick else "15s", "--min-duration", "1s")["runs"]
        for i, run in enumerate(measured):
            runs[factors[i % len(factors)]].append(run)
    goodput = {f: statistics.median(run["per_second"]["goodput"] for run in runs[f]) for f in factors}
    peak = max(goodput.values())
    print(f"<!-- highest valid rate {rate:g}/s; goodput/s at "
          + ", ".join(f"{f}x {goodput[f]:.2f}" for f in factors) + " -->")
    for factor in factors[1:]:
        share = goodput[factor] / peak
        report.row(f"goodput at {factor} times the highest valid rate, of its peak", f"{share:.2f}", ">= 0.9",
                   a.quick or share >= 0.9)
    times = sorted(time for run in runs[10] for time in run["requests"]["refusal_seconds"])
    refusal = percentile(times, 99) * 1e3 if times else 0.0
    report.row(f"refusals at 10 times: p99 of the time to answer, of {len(times)}", f"{refusal:.1f} ms", "<= 20 ms",
               a.quick or refusal <= 20)
    for factor in (1, 10):
        errors = [run["prediction_error"]["median"] for run in runs[factor] if "prediction_error" in run]
        error = statistics.median(errors) if errors else 0.0
        report.row(f"predicted against real finish at {factor} times, median error", f"{100 * error:.1f} %", "<= 10 %",
                   a.quick or error <= 0.1)
    wrong = sum(wrong_answers(run) for run in measured)
    report.row(f"requests not answered exactly once, of {sum(run['requests']['sent'] for run in measured)}", wrong, "0",
               wrong == 0)


def percentile(ascending, percent):
    """The least value that so many are at or below: one that was measured."""
    return ascending[max(0, math.ceil(percent / 100 * len(ascending) - 1e-9) - 1)]


def price_of_same_bytes(a, report):
    price_at(a, report, "bundled model", a.model, "unet/8-guided/64x64", 3 if a.quick else 100, 0.85)


def price_at_full_size(a, report):
    for dtype, turns in (("fp32", 11), ("bf16", 21)):
        if a.full_size and dtype in a.dtypes:
            price_at(a, report, f"full size, 256x256, {dtype}", a.full_size, "unet/8-guided/256x256", 1 if a.quick else turns,
                     0.97, f"--dtype={dtype}")


def price_at(a, report, what, model, case, turns, least, *flags):
    with (paced.networks(a, model, *flags) as ours,
          paced.networks(a, model, *flags, "--whole-batches") as free):
        for contestant in (ours, free):
            contestant.run(case)  # warm
        ratios = []
        for turn in range(turns):
            order = (ours, free) if turn % 2 else (free, ours)
            seconds = {contestant: contestant.run(case) for contestant in order}
            ratios.append([theirs / mine for theirs, mine in zip(seconds[free], seconds[ours])])
    wall, cpu = ([ratio[i] for ratio in ratios] for i in (0, 1))
    ratio = statistics.median(wall)
    report.row(f"same bytes: throughput beside whole batches, 16 rows, {what}",
               f"{ratio:.2f} ({min(wall):.2f} to {max(wall):.2f} in {turns} turns; of CPU time {statistics.median(cpu):.2f})",
               f">= {least}", a.quick or ratio >= least)


def processor_seconds(pid):
    """Of all threads of a process, those that have ended too: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)


def median_and_interval(values):
    """With ends that hold the median of what was sampled at 95 %."""
    ascending = sorted(values)
    rank = max(0, math.floor(len(ascending) / 2 - 0.98 * math.sqrt(len(ascending))))
    return statistics.median(ascending), ascending[rank], ascending[-1 - rank]


def preview_cost(a, report):
    """Processor time of the whole server, wherever previews are drawn, encoded and sent: a request with a preview after
    every step beside one without any, in turn. What one preview costs, beside a step without, is five times what
    previews of every five steps cost a step."""
    steps, pairs = (10, 1) if a.quick else (50, 40)
    with running_server(a.bin, a.model, ["--safety", "off"]) as (process, address):
        def request(*words):
            """Processor time; of it, the share that steps have in the request's time."""
            with tempfile.TemporaryDirectory() as folder:
                began = processor_seconds(process.pid)
                done = subprocess.run(
                    [os.path.join(a.bin, "image-variations"), "vary", PICTURES[0], "--steps", str(steps), "--seed", "1",
                     "--sampler", "ddim", "--json", "--quiet", "--no-sheet", "-o", folder, "--server", address, *words],
                    stdout=subprocess.PIPE, check=True, text=True)
                seconds = processor_seconds(process.pid) - began
            metrics = json.loads(done.stdout.splitlines()[0])["metrics"]
            return seconds, metrics["denoise_seconds"] / metrics["total_seconds"]

        def request_with_previews():
            """Processor time, and how many previews came."""
            with tempfile.TemporaryDirectory() as folder:
                seconds, _ = request("--previews", folder, "--preview-every", "1")
                return seconds, len(os.listdir(folder))

        request_with_previews()
        costs, shares = [], []
        for turn in range(pairs):
            with_first = request_with_previews() if turn % 2 else None
            plain, share = request()
            shown, previews = with_first or request_with_previews()
            costs.append((shown - plain) / previews)
            shares.append(100 / 5 * costs[-1] / (plain * share / steps))
    cost, lowest, highest = median_and_interval(shares)
    report.row(f"previews, every five steps: processor time of a step, median of {pairs} pairs and where it is at 95 %",
               f"{cost:+.2f} % ({lowest:+.2f} to {highest:+.2f}), {1e6 * statistics.median(costs):.0f} us a preview",
               "<= 0.5 %", a.quick or cost <= 0.5)


def process_state(pid):
    """Resident bytes, open files, threads."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"])


def slow_readers(a, address, folder, stop):
    """Callers that ask for much and stop reading for a while, one after the other."""
    while not stop.is_set():
        caller = subprocess.Popen(
            [os.path.join(a.bin, "image-variations"), "vary", PICTURES[0], "-n", "8", "--steps", "2", "--width", "128",
             "--height", "128", "--quiet", "--no-sheet", "--force", "-o", folder, "--timeout", "20s", "--server", address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(ProcessLookupError):
            time.sleep(0.1)
            caller.send_signal(signal.SIGSTOP)
            stop.wait(3)
            caller.send_signal(signal.SIGCONT)
        caller.wait()
        stop.wait(2)


def slope(points):
    """Of a line through (x, y), by least squares."""
    mean_x, mean_y = (statistics.fmean(values) for values in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def soak(a, report):
    seconds = 4 if a.quick else 60 * a.soak_minutes
    # Answers that are kept for repeated requests would be all that grows: they are to be full soon.
    with (running_server(a.bin, a.model, ["--replay-age", "10s"]) as (process, address),
          tempfile.TemporaryDirectory() as folder):
        bad = os.path.join(folder, "cut-off.jpg")
        with open(PICTURES[2], "rb") as source, open(bad, "wb") as file:
            file.write(source.read()[:2000])
        no_picture = os.path.join(folder, "no-picture.png")
        with open(no_picture, "w", encoding="ascii") as file:
            file.write("This is no picture.")
        rate = 2 * highest_valid_rate(a, address)
        stop, run = threading.Event(), []
        reader = threading.Thread(target=slow_readers, args=(a, address, folder, stop))
        load = threading.Thread(target=lambda: run.append(bench(
            a, address, *PICTURES, bad, no_picture, "--steps", "2,4" if a.quick else "5,10", "--rate", f"{rate:g}",
            "--duration", f"{seconds}s", "--deadline", LATENCY, "--cancel", "0.05")["runs"][0]))
        reader.start()
        load.start()
        began, states = time.monotonic(), []
        while load.is_alive():
            states.append((time.monotonic() - began, *process_state(process.pid)))
            load.join(0.5 if a.quick else 2)
        stop.set()
        reader.join()
    run, requests = run[0], run[0]["requests"]
    print("<!-- resident MB, each minute: " + ", ".join(f"{states[i][1] / 1e6:.1f}" for i in range(0, len(states), 30))
          + " -->")
    steady = [state for state in states if state[0] >= states[-1][0] / 4] or states
    per_10000 = slope([(t, rss) for t, rss, _, _ in steady]) * seconds / requests["sent"] * 10_000 / 1e6
    minutes = f"{seconds / 60:.3g} minutes at twice the highest valid rate ({rate:g}/s)"
    report.row(f"{minutes}: resident memory per 10,000 requests", f"{per_10000:+.2f} MB", "<= 1 MB",
               a.quick or per_10000 <= 1)
    for what, column in (("open files", 2), ("threads", 3)):
        half = len(steady) // 2
        first, second = (max(state[column] for state in part) for part in (steady[:half] or steady, steady[half:]))
        report.row(f"{what} of the server, most in the first and second half", f"{first}, {second}", "no growth",
                   a.quick or second <= first + 2)
    lost = requests["sent"] - endings(run) + wrong_answers(run)
    report.row(f"requests not answered exactly once, of {requests['sent']} ({requests['given_up']} left, "
               f"{requests['finished']} finished)", lost, "0", lost == 0)


ROWS = {"shared": shared, "overload": overload, "bytes": price_of_same_bytes, "full-size-bytes": price_at_full_size,
        "previews": preview_cost, "soak": soak}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--model", default="demo/model")
    parser.add_argument("--full-size", metavar="FOLDER", help="for the row that needs such a model; else it is left out")
    parser.add_argument("--dtypes", type=lambda text: text.split(","), default=["fp32", "bf16"], help="of --full-size")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS))
    parser.add_argument("--rate", type=float, help="the highest valid rate, if it is known")
    parser.add_argument("--turns", type=int, default=3, help="of each overload")
    parser.add_argument("--soak-minutes", type=float, default=10)
    parser.add_argument("--quick", action="store_true")
    a = parser.parse_args()
    if unknown := [name for name in a.rows if name not in ROWS]:
        parser.error(f"no rows {', '.join(unknown)}; there are {', '.join(ROWS)}")
    print(f"<!-- load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores -->")
    report = Report()
    for name in a.rows:
        ROWS[name](a, report)
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
