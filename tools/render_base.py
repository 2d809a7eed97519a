#!/usr/bin/env python3
"""Holds deploy/kustomize/base against the chart: tools/render_base.py [--update]

The base is the chart with its default values, without what is Helm's own (hooks, labels, checksums), so that nothing is
written twice: templates are edited, and --update writes the base anew. Exits 1 when it is not what it should be.
Run it with the Python of tools/setup.sh deploy.
"""
import sys
from pathlib import Path

import helm_python
import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
BASE = DEPLOY / "kustomize" / "base"
NAME = NAMESPACE = "image-variations"
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
HEAD = "# Written by tools/render_base.py from deploy/chart: edit the templates there.\n"


def render(values, release=NAME, namespace=NAMESPACE, keep_hooks=False):
    """The chart's objects with `values`; hooks only if asked for."""
    with helm_python.Chart.load(DEPLOY / "chart") as chart:
        files = chart.render(values, name=release, namespace=namespace)
    objects = [o for name, text in sorted(files.items()) if not name.endswith("NOTES.txt")
               for o in yaml.safe_load_all(text) if o]
    return [o for o in objects if keep_hooks or "helm.sh/hook" not in o["metadata"].get("annotations", {})]


def without_helm(item):
    """The object as somebody without Helm would write it."""
    if isinstance(item, list):
        return [without_helm(i) for i in item]
    if not isinstance(item, dict):
        return item
    kept = {k: without_helm(v) for k, v in item.items()
            if k not in HELM_LABELS and not k.startswith("checksum/")}
    return {k: v for k, v in kept.items() if not (k == "annotations" and not v)}


def is_of_base(item):
    """The test's policy belongs to Helm's hook; flags are a generator's, so that a change of them makes new pods."""
    return item["kind"] != "ConfigMap" and not item["metadata"]["name"].endswith("-test")


def base_files():
    objects = [without_helm(o) for o in render({})]
    flags = next(o["data"] for o in objects if o["kind"] == "ConfigMap")
    manifests = [o for o in objects if is_of_base(o)]
    for item in manifests:
        del item["metadata"]["namespace"]  # kustomization.yaml names it
    return {
        "manifests.yaml": HEAD + yaml.safe_dump_all(manifests, sort_keys=False, width=118),
        "flags.env": HEAD + "".join(f"{key}={value}\n" for key, value in flags.items()),
    }


def main():
    stale = {name: text for name, text in base_files().items()
             if not (BASE / name).exists() or (BASE / name).read_text() != text}
    if "--update" in sys.argv:
        for name, text in stale.items():
            (BASE / name).write_text(text)
    elif stale:
        sys.exit(f"{BASE}: {', '.join(stale)} differ from the chart: tools/render_base.py --update")


if __name__ == "__main__":
    main()
