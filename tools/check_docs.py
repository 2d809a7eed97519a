#!/usr/bin/env python3
"""Holds the generated tables of docs/operating.md against the server program: tools/check_docs.py [--update] [FOLDER OF THE PROGRAMS]

Between `<!-- NAME -->` and `<!-- end of NAME -->` stand the flags, as --print-flags-markdown prints them, and the metrics,
as a server with the bundled model shows them after one request. Exits 1 when a table is not what it should be; --update
writes it instead.
"""
import re
import sys
import urllib.request
from pathlib import Path
from subprocess import run

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from server_process import running_server  # noqa: E402

PAGE = ROOT / "docs" / "operating.md"


def flags(programs):
    return run([programs / "image-variations-server", "--print-flags-markdown"], check=True, capture_output=True,
               text=True).stdout.strip()


def metrics(programs):
    """A row for each family of ours, sorted; prometheus-cpp's own (exposer_*) are left out."""
    with running_server(programs, str(ROOT / "demo" / "model")) as (server, address):
        metrics_address = server.stdout.readline().removeprefix("metrics on ").strip()
        run([programs / "image-variations", "vary", ROOT / "demo" / "pictures" / "penguin.png", "--steps", "1",
             "-o", "-", "--server", address], check=True, capture_output=True)
        text = urllib.request.urlopen(f"http://{metrics_address}/metrics").read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    rows = [f"| `{name}` | {kinds[name]} | {help} |" for name, help in re.findall(r"^# HELP (\S+) (.*)$", text, re.M)
            if not name.startswith("exposer_")]
    return "\n".join(["| Metric | Kind | What |", "|---|---|---|", *sorted(rows)])


def main():
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    programs = Path(arguments[0]) if arguments else ROOT / "build" / "release" / "bin"
    page = PAGE.read_text()
    wanted = page
    for name, table in [("flags", flags(programs)), ("metrics", metrics(programs))]:
        wanted, found = re.subn(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)",
                                lambda match, table=table: match[1] + table + match[2], wanted, flags=re.S)
        if found != 1:
            sys.exit(f"{PAGE.name}: no place for the table of {name}")
    if wanted == page:
        return
    if "--update" not in sys.argv:
        sys.exit(f"{PAGE.name} does not show the program's flags and metrics: tools/check_docs.py --update")
    PAGE.write_text(wanted)


if __name__ == "__main__":
    main()
