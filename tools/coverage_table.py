#!/usr/bin/env python3
"""Sums up what gcov writes to stdout: covered lines of each parser; exits 1 below 90 %."""
import re
import sys

READERS = re.compile(r"(pipeline/image/(codec|jpeg|jpeg_header|png|png_header|stored_header|exif_orientation)"
                     r"|pipeline/checkpoint/(file|hub_cache|manifest|model_config|model_dir|safetensors|safetensors_header"
                     r"|weight_files)|pipeline/base/(config_reader|folder|json_value)"
                     r"|server/(authenticator|config|config_value|json_web_token|request_validator"
                     r"|token_table|trace_context))\.cc$")


def main():
    lines = {}  # source -> line number -> whether it ran
    source = None
    for text in sys.stdin:
        if match := re.match(r"\s*-:\s+0:Source:(.*)", text):
            source = match[1] if READERS.search(match[1]) else None
        elif source and (match := re.match(r"\s*([\d#=*]+):\s*(\d+):", text)):
            number = int(match[2])
            of_source = lines.setdefault(READERS.search(source)[0], {})
            of_source[number] = of_source.get(number, False) or match[1][0].isdigit()
    for name, ran in sorted(lines.items()):
        print(f"{100 * sum(ran.values()) / len(ran):5.1f} %  {sum(ran.values()):4} of {len(ran):4}  {name}")
    ran = sum(sum(of_source.values()) for of_source in lines.values())
    total = sum(len(of_source) for of_source in lines.values())
    print(f"{100 * ran / total:5.1f} %  {ran:4} of {total:4}  lines")
    sys.exit(ran < 0.9 * total)


if __name__ == "__main__":
    main()
