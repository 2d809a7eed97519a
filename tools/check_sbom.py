#!/usr/bin/env python3
"""Compares an image's files with its SBOM: tools/check_sbom.py ROOT

Every file under ROOT must be in it with its SHA1 and SHA256, and nothing else; every package must have a version, a sum and
files. Prints what there is of each kind.
"""
import collections
import hashlib
import json
import sys
from pathlib import Path

SBOM = "usr/share/image-variations/sbom.spdx.json"


def main():
    root = Path(sys.argv[1])
    sbom = json.loads((root / SBOM).read_text())
    named = {file["fileName"]: {c["algorithm"]: c["checksumValue"] for c in file["checksums"]} for file in sbom["files"]}
    contained = collections.defaultdict(set)
    for relation in sbom["relationships"]:
        contained[relation["spdxElementId"]].add(relation["relatedSpdxElement"])
    bad = [p["name"] for p in sbom["packages"] if not p.get("versionInfo") or not p.get("checksums") or not contained[p["SPDXID"]]]
    there = {"./" + str(path.relative_to(root)): path for path in root.rglob("*")
             if path.is_file() and not path.is_symlink() and path.relative_to(root).parts[0] not in ("proc", "dev", "sys")}
    del there["./" + SBOM]
    for name, path in there.items():
        content = path.read_bytes()
        if named.get(name) != {"SHA1": hashlib.sha1(content).hexdigest(), "SHA256": hashlib.sha256(content).hexdigest()}:
            bad.append(name)
    bad += sorted(set(named) - set(there))
    kinds = collections.Counter(p["externalRefs"][0]["referenceLocator"].split("/")[0] for p in sbom["packages"])
    print(f"check_image: SBOM: {kinds['pkg:deb']} Debian packages, {kinds['pkg:pypi']} wheels, "
          f"{sum('/model/' in name for name in named)} model files; all {len(there)} files of the image have their sums in it")
    if bad:
        sys.exit(f"check_image: the SBOM is wrong about {', '.join(bad)}")


if __name__ == "__main__":
    main()
