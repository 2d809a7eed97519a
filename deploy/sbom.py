#!/usr/bin/env python3
"""What an image consists of, as SPDX 2.3: deploy/sbom.py RUNTIME MODEL SITE_PACKAGES VERSION >sbom.spdx.json

RUNTIME is what collect_runtime.sh wrote. Debian packages with the files that are taken of them, wheels whose libraries
are taken, and the files of the bundled model; each with version and sha256. A wheel's sum is that of its RECORD, which
holds the sums of all its files.
"""
import hashlib
import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(digest):
    return [{"algorithm": "SHA256", "checksumValue": digest}]


def identifier(*parts):
    return "SPDXRef-" + "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)


def owner(path):
    """The Debian package that owns a library; packages know it with or without /usr."""
    for name in (path, path.removeprefix("/usr")):
        found = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split(": ")[0].split(",")[0]
    sys.exit(f"sbom: no package owns {path}")


def package(name, version, digest, kind, purl, licence="NOASSERTION"):
    return {"SPDXID": identifier(kind, name), "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False, "licenseConcluded": licence, "licenseDeclared": licence,
            "copyrightText": "NOASSERTION", "checksums": checksum(digest),
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]}


def file_of(path, name, kind):
    return {"SPDXID": identifier(kind, name), "fileName": "." + name, "checksums": checksum(sha256(path)),
            "licenseConcluded": "NOASSERTION", "copyrightText": "NOASSERTION"}


def debian_packages(system):
    """Packages, their files in the image, and which are whose."""
    files = {}
    for path in sorted(p for p in (system / "usr").rglob("*") if p.is_file()):
        name = "/" + str(path.relative_to(system))
        files.setdefault(owner(name), []).append((path, name))
    for name, members in files.items():
        version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], check=True, capture_output=True,
                                 text=True).stdout
        entries = [file_of(path, where, "file") for path, where in members]
        sums = "".join(sorted(e["checksums"][0]["checksumValue"] for e in entries))
        yield package(name.split(":")[0], version, hashlib.sha256(sums.encode()).hexdigest(), "deb",
                      f"pkg:deb/debian/{name.split(':')[0]}@{version}"), entries


def wheels(libtorch, site_packages):
    """Wheels that have one of the libraries in the image."""
    taken = {path.name for path in libtorch.rglob("*") if path.is_file()}
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        own = {Path(line.split(",")[0]).name for line in record.read_text().splitlines()}
        if taken & own:
            taken -= own
            name, version = record.parent.name.removesuffix(".dist-info").rsplit("-", 1)
            yield package(name, version, sha256(record), "wheel", f"pkg:pypi/{name.lower().replace('_', '-')}@{version}")
    if taken:
        sys.exit(f"sbom: no wheel owns {', '.join(sorted(taken))}")


def main():
    runtime, model, site_packages, version = map(Path, sys.argv[1:5])
    packages, files, contains = [], [], []
    image = package("image-variations", str(version), sha256(runtime / "programs/usr/bin/image-variations-server"), "image",
                    f"pkg:generic/image-variations@{version}")
    packages.append(image)
    for deb, members in debian_packages(runtime / "system"):
        packages.append(deb)
        files += members
        contains += [(deb["SPDXID"], member["SPDXID"]) for member in members]
    packages += wheels(runtime / "libtorch", site_packages)
    model_files = [file_of(path, f"/usr/share/image-variations/model/{path.relative_to(model)}", "model")
                   for path in sorted(model.rglob("*")) if path.is_file()]
    programs = [file_of(path, "/" + str(path.relative_to(runtime / "programs")), "program")
                for path in sorted((runtime / "programs/usr/bin").iterdir())]
    files += model_files + programs
    contains += [(image["SPDXID"], entry["SPDXID"]) for entry in packages[1:] + model_files + programs]
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    json.dump({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"image-variations-{version}",
        "documentNamespace": f"https://image-variations.invalid/spdx/{version}/{image['checksums'][0]['checksumValue']}",
        "creationInfo": {"created": now, "creators": ["Tool: deploy/sbom.py"]},
        "documentDescribes": [image["SPDXID"]], "packages": packages, "files": files,
        "relationships": [{"spdxElementId": a, "relationshipType": "CONTAINS", "relatedSpdxElement": b} for a, b in contains],
    }, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
