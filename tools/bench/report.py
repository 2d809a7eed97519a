#!/usr/bin/env python3
"""Puts what the benchmarks found into docs/performance.md and docs/performance.svg: tools/bench/report.py out/bench.jsonl

Each benchmark adds its lines with --json; of lines about the same thing the last one counts.
"""
import argparse
import html
import json

import results

BEGIN, END = "<!-- tools/bench/report.py: begin -->", "<!-- end -->"
WIDTH, TEXT, BAR, ROW, TOP = 960, 480, 300, 26, 34   # pixels
LONGEST = 2.0   # what is further from its mark than this ends at the edge


def read(paths):
    rows = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                rows.pop(row["what"], None)
                rows[row["what"]] = row
    return list(rows.values())


def is_reached(row):
    return row["measured"] >= row["limit"] if row["at_least"] else row["measured"] <= row["limit"]


def table(rows):
    lines = ["| What | Measured | Must reach | Behind it |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['what']} | {results.figure(row['measured'], row['unit'])} | {results.must_reach(row)}"
                     f"{'' if is_reached(row) else ' **missed**'} | {row['note']}; load {row['load']} |")
    return "\n".join(lines)


def share_of_limit(row):
    """Smaller is better; 1 is the mark."""
    return row["limit"] / row["measured"] if row["at_least"] else row["measured"] / row["limit"]


def short(text, length=72):
    return text if len(text) <= length else text[:length - 1] + "…"


def chart(rows):
    height = TOP + ROW * len(rows) + 30
    scale = BAR / LONGEST
    mark = TEXT + scale
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             f'<text x="{mark:.0f}" y="18" text-anchor="middle" fill="#222">must reach</text>',
             f'<text x="{TEXT - 8}" y="18" text-anchor="end" fill="#555">shorter is better; figure / must reach</text>']
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        share = share_of_limit(row)
        bar = scale * min(share, LONGEST)
        colour = "#2a7f62" if is_reached(row) else "#c0504d"
        figure = f"{results.figure(row['measured'], row['unit'])} ({results.must_reach(row)})"
        # A bar that reaches its mark: the text is beyond the mark, clear of its line.
        beside = max(TEXT + bar, mark) + 6
        lines += [f'<text x="{TEXT - 8}" y="{y + 16}" text-anchor="end" fill="#222">{html.escape(short(row["what"].replace("`", "")))}'
                  "</text>",
                  f'<rect x="{TEXT}" y="{y + 4}" width="{bar:.1f}" height="{ROW - 10}" fill="{colour}"/>',
                  f'<text x="{beside:.1f}" y="{y + 16}" fill="#222">{html.escape(figure)}</text>']
    lines += [f'<line x1="{mark:.1f}" y1="{TOP - 8}" x2="{mark:.1f}" y2="{height - 22}" stroke="#222" stroke-width="1.5"/>',
              f'<text x="{TEXT}" y="{height - 6}" fill="#555">0</text>',
              f'<text x="{mark:.1f}" y="{height - 6}" text-anchor="middle" fill="#555">1</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--page", default="docs/performance.md")
    parser.add_argument("--chart", default="docs/performance.svg")
    a = parser.parse_args()
    rows = read(a.results)
    with open(a.page, encoding="utf-8") as file:
        head, _, rest = file.read().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        parser.error(f"{a.page} has no place between {BEGIN} and {END}")
    with open(a.page, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n{table(rows)}\n{END}{tail}")
    with open(a.chart, "w", encoding="utf-8") as file:
        file.write(chart(rows))


if __name__ == "__main__":
    main()
