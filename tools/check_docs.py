#!/usr/bin/env python3
"""Holds the generated tables of docs/operating.md against the server program: tools/check_docs.py [--update] [PROGRAM]

Between `<!-- NAME -->` and `<!-- end of NAME -->` stands what --print-NAME-markdown prints. Exits 1 when a table is not
what it should be; --update writes it instead.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operating.md"


def main():
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    program = arguments[0] if arguments else ROOT / "build" / "release" / "bin" / "image-variations-server"
    page = PAGE.read_text()
    wanted = page
    for name in ("flags", "metrics"):
        table = subprocess.run([program, f"--print-{name}-markdown"], check=True, capture_output=True,
                               text=True).stdout.strip()
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
