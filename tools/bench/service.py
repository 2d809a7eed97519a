#!/usr/bin/env python3
"""The service beside what a user would put together: diffusers behind LitServe, with the bundled model on the same cores.

    tools/setup.sh peers && .venv/bin/python tools/bench/service.py

pictures  64 requests at once, unlike in steps, guidance, number of pictures, seed and source: finished pictures per
          second, ours / the peer's. The peer gets each of --batch-sizes once, and the turns with its best.
latency   requests that come by themselves (Poisson, from a seed) at 60 % of what the peer finished per second: the 99th
          percentile of the time from when a request is due to its whole answer, ours / the peer's.

Both get the same requests at the same times, in turn, and the one that waits is stopped. fp32, each model's own sampler.
"""
import argparse
import concurrent.futures
import itertools
import math
import os
import random
import statistics
import time

import results

PICTURES = ["demo/pictures/penguin.png", "demo/pictures/cactus.png", "demo/pictures/still-life.jpg"]
SHARE_OF_CAPACITY = 0.6


def mixed_requests(count, seed, quick):
    draw = random.Random(seed)
    return [{"picture": draw.choice(PICTURES), "steps": draw.choice([1, 2] if quick else [5, 10, 20]),
             "guidance": draw.choice([1.0, 3.0, 5.0]), "count": draw.choice([1, 2]), "seed": draw.randrange(1 << 30)}
            for _ in range(count)]


def ask_at(contestant, requests, times):
    """Each request at its time in seconds from now: seconds from then to each answer, seconds to the last one."""
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as callers:
        began = time.monotonic() + 0.05

        def ask(request, due):
            time.sleep(max(0.0, began + due - time.monotonic()))
            if contestant.ask(request) != request["count"]:
                raise RuntimeError("an answer without all of its pictures")
            return time.monotonic() - began - due

        latencies = list(callers.map(ask, requests, times))
        return latencies, max(due + latency for due, latency in zip(times, latencies))


def pictures_of(requests):
    return sum(request["count"] for request in requests)


def pictures_per_second(contestant, requests):
    """And CPU seconds of a picture, which do not count what else the machine did."""
    with contestant.awake():
        before = contestant.cpu_seconds()
        _, seconds = ask_at(contestant, requests, [0.0] * len(requests))
    return pictures_of(requests) / seconds, (contestant.cpu_seconds() - before) / pictures_of(requests)


def p99(latencies):
    return sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1]


def arrivals(count, rate, seed):
    draw = random.Random(seed)
    return list(itertools.accumulate(draw.expovariate(rate) for _ in range(count)))


def best_batch_size(a, requests):
    rates = {}
    for size in a.batch_sizes:
        with contestants.litserve(a, size) as peer:
            ask_at(peer, requests[:2], [0.0, 0.0])
            rates[size], _ = pictures_per_second(peer, requests)
            print(f"<!-- LitServe, max_batch_size {size}: {rates[size]:.2f} pictures/s -->", flush=True)
    return max(rates, key=rates.get)


def spread(values):
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_flags(parser)
    parser.add_argument("--model", default="demo/model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--requests", type=int, default=64, help="at once, and of each run of latency")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[1, 4, 8, 16, 64], help="of LitServe: the best is taken")
    parser.add_argument("--batch-timeout", type=float, default=0.05, help="of LitServe: seconds to wait for more")
    parser.add_argument("--latency", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    if a.quick:
        a.requests, a.turns, a.batch_sizes = 4, 1, [4]
    report = results.Results(a.json, a.quick)
    requests = mixed_requests(a.requests, a.seed, a.quick)
    size = a.batch_sizes[0] if len(a.batch_sizes) == 1 else best_batch_size(a, requests)
    with contestants.ours(a) as ours, contestants.litserve(a, size) as peer:
        who = (ours, peer)
        for contestant in who:
            pictures_per_second(contestant, requests[:4])   # not counted
        turns = [[pictures_per_second(contestant, requests) for contestant in who] for _ in range(a.turns)]
        rates, cpu = ([[figures[i] for figures in turn] for turn in turns] for i in (0, 1))
        mine, theirs = zip(*rates)
        my_cpu, their_cpu = (statistics.median(seconds) for seconds in zip(*cpu))
        report.row(f"{a.requests} mixed requests at once: pictures per second, ours / LitServe",
                   statistics.median(our / their for our, their in rates), 3, at_least=True,
                   note=f"{spread(mine)} / {spread(theirs)}, batches of {size}, {a.turns} turns; CPU seconds of a picture "
                        f"{my_cpu:.3g} / {their_cpu:.3g}")
        if not a.latency:
            report.end()
        rate = SHARE_OF_CAPACITY * statistics.median(theirs) * len(requests) / pictures_of(requests)
        late = []
        for turn in range(a.turns):
            times = arrivals(a.requests, rate, a.seed + turn)
            late.append([])
            for contestant in who:
                with contestant.awake():
                    late[-1].append(p99(ask_at(contestant, requests, times)[0]))
        mine, theirs = zip(*late)
        report.row("p99 latency at 60 % of LitServe's capacity, ours / LitServe",
                   statistics.median(our / their for our, their in late), 0.5,
                   note=f"{spread(mine)} s / {spread(theirs)} s, {a.turns} turns of {a.requests} requests at {rate:.2g}/s")
    report.end()


if __name__ == "__main__":
    try:
        import contestants
        import litserve as _
    except ImportError as missing:
        print(f"{missing}: tools/setup.sh peers")
        raise SystemExit(77)  # ctest: skipped
    main()
