#!/usr/bin/env python3
"""Checks who includes whom, who may use what, and how long files are: tools/check_layers.py [ROOT]

Prints one line for each offence (file:line: what, and what would be right) and exits 1 if there is any. Lengths above
the target but below the wall are only mentioned. The tables below are the rules; tests/tools/check_layers_test.py shows
that each of them can fail.
"""
import os
import re
import sys

# Folder -> folders whose headers it may include, beside its own. The longest match of a file's path counts.
ARROWS = {
    "pipeline/base": [],
    "pipeline/image": ["pipeline/base"],
    "pipeline/sampler": ["pipeline/base"],
    "pipeline/checkpoint": ["pipeline/base", "pipeline/sampler"],
    "pipeline/engine": ["pipeline/base", "pipeline/image", "pipeline/sampler"],
    "pipeline/model": ["pipeline/base", "pipeline/image", "pipeline/sampler", "pipeline/checkpoint", "pipeline/engine"],
    "server": ["pipeline/base", "pipeline/image", "pipeline/sampler", "pipeline/engine"],
    "server/main.cc": ["server", "pipeline"],                      # the composition root
    "client": [],
    "client/bench": ["client"],
    "client/cli": ["client", "pipeline/base", "pipeline/image"],   # the program draws contact sheets
}
# Headers of others -> folders that may include them; [] = nobody. What is not named here is free.
OUTSIDERS = {
    r"torch/torch\.h|ATen/ATen\.h": [],                            # 24 s a file: per-operator headers instead
    r"(ATen|c10|torch|caffe2)/": ["pipeline/model", "tests/pipeline/model", "tests/tools"],
    r"(grpc|grpcpp|google|imagevariations)/": ["server", "client", "tests/server", "tests/client", "tests/system",
                                               "tests/support", "tests/fuzz"],
    r"prometheus/": ["server", "tests/server", "tests/system"],
    r"jpeglib\.h|jerror\.h|png\.h|setjmp\.h|csetjmp": ["pipeline/image", "tests"],
    r"nlohmann/": ["pipeline/base", "pipeline/checkpoint", "client", "tests"],
    r"CLI/": ["server", "client", "pipeline/base", "tests"],
    r"(thread|stop_token|pthread\.h)$": ["server", "client", "tests"],
    r"random$": ["server", "client", "tests"],
    r"absl/random/": ["server", "client", "tests"],
}
# Words of code -> (what is wrong with them, files or folders where they are right).
WORDS = {
    r"\btry\b": ("`try` outside the guard", ["pipeline/model/torch_guard.h", "pipeline/base/memory_guard.h"]),
    r"\babsl::Now\s*\(": ("reads the wall clock: take a Clock", ["pipeline/base/clock.h", "pipeline/base/log.cc",
                                                                 "server/main.cc", "tests"]),
    r"\bgetenv\b|\benviron\b": ("reads the environment", ["server/config.cc", "client/cli/config.cc", "tests"]),
    r"\bstd::(jthread|thread|async)\b(?!::)|\bpthread_create\b": ("starts a thread", ["server", "client", "tests"]),
}
LENGTHS = {".h": (120, 150), ".cc": (400, 600)}                    # target, wall
CODE_FOLDERS = ("pipeline", "server", "client", "tests")


def lies_in(path, places):
    return any(path == place or path.startswith(place + "/") for place in places)


def arrows_of(path):
    """The rule for this file: (its own folder, folders that it may include). None: no rule (tests)."""
    folders = [folder for folder in ARROWS if lies_in(path, [folder])]
    if not folders:
        return None
    folder = max(folders, key=len)
    return folder, ARROWS[folder]


def without_comments(text):
    """The same lines with comments and the insides of literals blanked."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
    include = re.compile(r'^\s*#\s*include[^\n]*', re.MULTILINE)
    kept = {match.start(): match.group() for match in include.finditer(text)}
    blank = lambda match: re.sub(r"[^\n]", " ", match.group())
    text = include.sub(blank, text)
    text = token.sub(blank, text)
    for start, line in kept.items():
        text = text[:start] + line + text[start + len(line):]
    return text


def check_include(path, header, quoted):
    rule = arrows_of(path)
    if quoted and rule and lies_in(header, ("pipeline", "server", "client", "tests")):
        folder, allowed = rule
        if not lies_in(header, [folder, *allowed]):
            yield f"{folder} may not include {header} (allowed: {', '.join(allowed) or 'its own folder only'})"
    for pattern, places in OUTSIDERS.items():
        if re.match(pattern, header):
            if not lies_in(path, places):
                yield f"may not include {header} (allowed in: {', '.join(places) or 'nowhere'})"
            break


def check_file(path, text):
    """(line, message) of each offence."""
    target, wall = LENGTHS[os.path.splitext(path)[1]]
    length = text.count("\n")
    if length > wall:
        yield length, f"{length} lines; the wall is {wall}, the target {target}"
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        if match := re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line):
            for message in check_include(path, match.group(2), match.group(1) == '"'):
                yield number, message
            continue
        for pattern, (message, places) in WORDS.items():
            if re.search(pattern, line) and not lies_in(path, places):
                yield number, f"{message} (allowed in: {', '.join(places)})"


def check_tree(root):
    """(offences, remarks, number of files read), as lines."""
    offences, remarks, count = [], [], 0
    for top in CODE_FOLDERS:
        for folder, _, names in sorted(os.walk(os.path.join(root, top))):
            for name in sorted(names):
                if os.path.splitext(name)[1] not in LENGTHS:
                    continue
                full = os.path.join(folder, name)
                path = os.path.relpath(full, root)
                with open(full, encoding="utf-8") as file:
                    text = file.read()
                count += 1
                offences += [f"{path}:{line}: {message}" for line, message in check_file(path, text)]
                target, wall = LENGTHS[os.path.splitext(name)[1]]
                if target < text.count("\n") <= wall:
                    remarks.append(f"{path}: {text.count(chr(10))} lines, above the target of {target}")
    return offences, remarks, count


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    offences, remarks, count = check_tree(root)
    for line in remarks + offences:
        print(line)
    if count == 0:
        sys.exit(f"layers: no C++ files under {root}")
    print(f"layers: {count} files, {len(offences)} offences")
    sys.exit(1 if offences else 0)


if __name__ == "__main__":
    main()
