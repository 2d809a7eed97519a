#!/usr/bin/env python3
"""What an image consists of, as SPDX 2.3: deploy/sbom.py RUNTIME SITE_PACKAGES VERSION >sbom.spdx.json

RUNTIME is what collect_runtime.sh wrote: every file of it is listed with SHA1 and SHA256, as part of a Debian package, of a
wheel, of the bundled model, or of the image itself; each of these has a version. Of Debian packages and wheels the image has
some files only. So a package's SHA256 is that of the sorted SHA256 sums of those files, and a wheel's that of its RECORD.
"""
import hashlib
import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

MODEL = "/usr/share/image-variations/model/"


def identifier(*parts):
    return "SPDXRef-" + "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True)


def debian_owner(path):
    """The Debian package that owns a library; packages know it with or without /usr."""
    if path.startswith("/etc/ssl/certs/"):
        return "ca-certificates"
    for name in (path, path.removeprefix("/usr")):
        found = output("dpkg-query", "-S", name)
        if found.returncode == 0:
            return found.stdout.split(": ")[0].split(",")[0]
    sys.exit(f"sbom: no package owns {path}")


def entry(path, name):
    """A file as SPDX has it; `name` is where it is in the image."""
    content = path.read_bytes()
    return {"SPDXID": identifier("file", name), "fileName": "." + name,
            "checksums": [{"algorithm": "SHA1", "checksumValue": hashlib.sha1(content).hexdigest()},
                          {"algorithm": "SHA256", "checksumValue": hashlib.sha256(content).hexdigest()}],
            "licenseConcluded": "NOASSERTION", "licenseInfoInFiles": ["NOASSERTION"], "copyrightText": "NOASSERTION"}


def digest(files, algorithm):
    """Of the sorted sums of files: with SHA1 what SPDX calls the verification code of a package."""
    sums = sorted(c["checksumValue"] for f in files for c in f["checksums"] if c["algorithm"] == algorithm)
    return hashlib.new(algorithm, "".join(sums).encode()).hexdigest()


def package(name, version, kind, purl, files, sha256=None):
    return {"SPDXID": identifier(kind, name), "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
            "filesAnalyzed": True, "packageVerificationCode": {"packageVerificationCodeValue": digest(files, "SHA1")},
            "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "licenseInfoFromFiles": ["NOASSERTION"],
            "copyrightText": "NOASSERTION",
            "checksums": [{"algorithm": "SHA256", "checksumValue": sha256 or digest(files, "SHA256")}],
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]}


def entries(tree):
    """The files of a layer; links to them are not listed."""
    return [entry(path, "/" + str(path.relative_to(tree))) for path in sorted(tree.rglob("*"))
            if path.is_file() and not path.is_symlink()]


def debian_packages(system):
    """Packages with their files in the image."""
    owned = {}
    for file in entries(system):
        owned.setdefault(debian_owner(file["fileName"][1:]), []).append(file)
    for owner, files in owned.items():
        name, version = owner.split(":")[0], output("dpkg-query", "-W", "-f", "${Version}", owner).stdout
        yield package(name, version, "deb", f"pkg:deb/debian/{name}@{version}", files), files


def wheels(libtorch, site_packages):
    """Wheels that have libraries in the image, with these."""
    left = {Path(file["fileName"]).name: file for file in entries(libtorch)}
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        own = {Path(line.split(",")[0]).name for line in record.read_text().splitlines()}
        files = [left.pop(name) for name in sorted(own & set(left))]
        if files:
            name, version = record.parent.name.removesuffix(".dist-info").rsplit("-", 1)
            yield package(name, version, "wheel", f"pkg:pypi/{name.lower().replace('_', '-')}@{version}", files,
                          hashlib.sha256(record.read_bytes()).hexdigest()), files
    if left:
        sys.exit(f"sbom: no wheel owns {', '.join(sorted(left))}")


def main():
    runtime, site_packages, version = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    programs = entries(runtime / "programs")
    model_files = [file for file in programs if file["fileName"].startswith("." + MODEL)]
    own_files = [file for file in programs if not file["fileName"].startswith("." + MODEL)]
    image = package("image-variations", version, "image", f"pkg:generic/image-variations@{version}", own_files)
    model = package("image-variations-bundled-model", version, "model",
                    f"pkg:generic/image-variations-bundled-model@{version}", model_files)
    parts = [*debian_packages(runtime / "system"), *wheels(runtime / "libtorch", site_packages), (model, model_files)]
    contains = [(image, part) for part, _ in parts]
    contains += [(owner, file) for owner, files in [(image, own_files), *parts] for file in files]
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    json.dump({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"image-variations-{version}",
        "documentNamespace": f"https://image-variations.invalid/spdx/{version}/{image['checksums'][0]['checksumValue']}",
        "creationInfo": {"created": now, "creators": ["Tool: deploy/sbom.py"]},
        "packages": [image] + [part for part, _ in parts],
        "files": own_files + [file for _, files in parts for file in files],
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                           "relatedSpdxElement": image["SPDXID"]}]
        + [{"spdxElementId": a["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": b["SPDXID"]}
           for a, b in contains],
    }, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
