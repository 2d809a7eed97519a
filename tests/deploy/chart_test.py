"""The chart and the overlays without a cluster: chart_test.py SERVER_PROGRAM, with the Python of tools/setup.sh deploy.

Helm, kubectl, kubernetes-validate and checkov are the real ones. No package on PyPI or in Debian carries the schema of
GRPCRoute, so that only what it refers to is checked.
"""
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import render_base  # noqa: E402

CHART = ROOT / "deploy" / "chart"
KUSTOMIZE = ROOT / "deploy" / "kustomize"
BIN = Path(sys.executable).parent
SERVER = sys.argv.pop(1)
SETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "values").glob("*.yaml"))}
ALL = {"defaults": {}, **SETS}
# Every object, by its kind and what its name adds to the release's.
ALWAYS = {"ConfigMap", "Deployment", "NetworkPolicy", "NetworkPolicy-test", "Pod-test-health", "PodDisruptionBudget", "Service",
          "ServiceAccount"}
BESIDES = {"defaults": set(), "cpu-demo": set(), "gpu": set(), "gpu-mtls": set(), "cpu-hpa": {"HorizontalPodAutoscaler"},
           "production": {"ConfigMap-dashboard", "GRPCRoute", "PrometheusRule", "ScaledObject", "Service-headless",
                          "ServiceMonitor"}}
KUBERNETES = ["1.33", "1.34", "1.35", "1.36", "1.37"]
# CustomResourceDefinitions: those that a package has models of.
MODELS = {"ScaledObject": "cloudcoil.models.keda.v1alpha1",
          "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
          "PrometheusRule": "cloudcoil.models.prometheus_operator.v1"}
UNCHECKED = {"GRPCRoute"}
# Of checkov's rules: which image is an operator's choice; the test's pod lives for a second.
NOT_OURS = "CKV_K8S_15,CKV_K8S_43"
NOT_FOR_TESTS = {"CKV_K8S_8", "CKV_K8S_9"}


def rendered(values, keep_hooks=True):
    return render_base.render(values, keep_hooks=keep_hooks)


def one(objects, kind, name="image-variations"):
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def pods(objects):
    """Kind, metadata and spec of every pod that these objects make."""
    for o in objects:
        if o["kind"] == "Pod":
            yield o["kind"], o["metadata"], o["spec"]
        elif o["kind"] == "Deployment":
            yield o["kind"], o["spec"]["template"]["metadata"], o["spec"]["template"]["spec"]


def overlay(name):
    text = subprocess.run([BIN / "kubectl", "kustomize", KUSTOMIZE / "overlays" / name], check=True, capture_output=True,
                          text=True).stdout
    return list(yaml.safe_load_all(text))


def printed(table):
    """First column of a table that the server program prints."""
    text = subprocess.run([SERVER, f"--print-{table}-markdown"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\| `(?:--)?([a-z_0-9-]+)`", text, re.M)


class Chart(unittest.TestCase):
    def test_every_set_has_its_objects(self):
        self.assertEqual(set(ALL), set(BESIDES))
        for name, values in ALL.items():
            with self.subTest(name):
                objects = [o["kind"] + o["metadata"]["name"].removeprefix("image-variations") for o in rendered(values)]
                self.assertEqual(sorted(objects), sorted(ALWAYS | BESIDES[name]))

    def test_helm_lint_finds_nothing(self):
        for name, values in ALL.items():
            with self.subTest(name):
                report = helm_python.lint(CHART, values, strict=True)
                self.assertEqual(report["errors"], [])
                self.assertEqual([m for m in report["messages"] if m["severity"] > 1], [])

    def test_every_set_is_valid_for_the_last_five_versions_of_kubernetes(self):
        for version in KUBERNETES:
            for name, values in ALL.items():
                for item in rendered(values):
                    with self.subTest(version=version, values=name, kind=item["kind"]):
                        if item["kind"] not in MODELS and item["kind"] not in UNCHECKED:
                            kubernetes_validate.validate(item, version, strict=True)

    def test_custom_resources_fit_the_models_of_their_definitions(self):
        seen = set()
        for values in SETS.values():
            for item in (o for o in rendered(values) if o["kind"] in MODELS):
                seen.add(item["kind"])
                module = __import__(MODELS[item["kind"]], fromlist=[item["kind"]])
                model = getattr(module, item["kind"]).model_validate(item)
                # A key that the definition does not know would be missing here.
                self.assertEqual(model.model_dump(by_alias=True, exclude_unset=True, mode="json")["spec"], item["spec"])
        self.assertEqual(seen, set(MODELS))

    def test_bad_values_are_refused_by_the_schema(self):
        cases = yaml.safe_load((ROOT / "tests" / "deploy" / "bad_values.yaml").read_text())
        self.assertGreaterEqual(len(cases), 20)
        with helm_python.Chart.load(CHART) as chart:
            for case in cases:
                with self.subTest(case["why"]):
                    with self.assertRaises(helm_python.HelmError) as refused:
                        chart.render(case["values"], name="x", namespace="x")
                    self.assertIn(case["says"], str(refused.exception))

    def test_the_schema_knows_the_flags_of_the_server(self):
        with helm_python.Chart.load(CHART) as chart:
            known = chart.schema["properties"]["flags"]["propertyNames"]["enum"]
        decided = {flag.removeprefix("IMAGE_VARIATIONS_").lower().replace("_", "-")
                   for values in ALL.values() for flag in one(rendered(values), "ConfigMap")["data"]
                   if flag.removeprefix("IMAGE_VARIATIONS_").lower().replace("_", "-") not in known}
        decided |= {"client-names", "threads"}
        self.assertEqual(sorted(known + list(decided)), sorted(printed("flags")),
                         "flags in values.schema.json and those that templates/configmap.yaml decides")

    def test_every_flag_of_the_config_map_exists(self):
        exist = {"IMAGE_VARIATIONS_" + flag.upper().replace("-", "_") for flag in printed("flags")}
        for name, values in ALL.items():
            with self.subTest(name):
                self.assertLessEqual(set(one(rendered(values), "ConfigMap")["data"]), exist)

    def test_a_changed_flag_makes_new_pods(self):
        def checksum(values):
            return one(rendered(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/flags"]
        self.assertNotEqual(checksum({}), checksum({"flags": {"max-rows": 8}}))

    def test_pods_have_more_time_to_end_than_the_server_takes(self):
        spec = one(rendered({"drain": {"delaySeconds": 20, "timeoutSeconds": 600}}), "Deployment")["spec"]
        self.assertGreater(spec["template"]["spec"]["terminationGracePeriodSeconds"], 620)

    def test_the_test_asks_the_service_that_is_there(self):
        for values in ({}, {"fullnameOverride": "pictures", "service": {"port": 443}}):
            objects = rendered(values)
            service = next(o for o in objects if o["kind"] == "Service")
            pod = next(o for o in objects if o["kind"] == "Pod")
            host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            self.assertIn(f"--server={host}:{service['spec']['ports'][0]['port']}", pod["spec"]["containers"][0]["args"])

    def test_the_route_leads_to_the_service(self):
        objects = rendered(SETS["production"])
        route = one(objects, "GRPCRoute")["spec"]
        service = one(objects, "Service")
        rule, = route["rules"]
        backend, = rule["backendRefs"]
        self.assertEqual(backend["name"], service["metadata"]["name"])
        self.assertEqual(backend["port"], service["spec"]["ports"][0]["port"])
        asked = [match["method"]["service"] for match in rule["matches"]]
        proto = (ROOT / "proto/imagevariations/v1/image_variations.proto").read_text()
        own = re.search(r"^package (\S+);", proto, re.M)[1] + "." + re.search(r"^service (\S+) ", proto, re.M)[1]
        self.assertEqual(asked, [own, "grpc.health.v1.Health"])
        self.assertEqual(route["parentRefs"], SETS["production"]["route"]["parentRefs"])

    def test_clients_that_balance_find_every_replica(self):
        objects = rendered(SETS["production"])
        service = one(objects, "Service", "image-variations-headless")["spec"]
        self.assertEqual(service["clusterIP"], "None")
        labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        self.assertLessEqual(service["selector"].items(), labels.items())

    def test_the_notes_warn_of_plaintext(self):
        def notes(values):
            with helm_python.Chart.load(CHART) as chart:
                return next(t for n, t in chart.render(values, name="a", namespace="b").items() if n.endswith("NOTES.txt"))
        self.assertIn("WARNING: the port speaks plaintext", notes({}))
        self.assertNotIn("WARNING", notes(SETS["gpu-mtls"]))

    def test_metrics_that_scale_exist(self):
        exist = printed("metrics")
        objects = rendered(SETS["production"]) + rendered(SETS["cpu-hpa"])
        asked = re.findall(r"image_variations_\w+", str([o["spec"] for o in objects if o["kind"] in (
            "ScaledObject", "HorizontalPodAutoscaler")]))
        self.assertEqual(len(asked), 2)
        self.assertLessEqual(set(asked), set(exist))


class PodSecurity(unittest.TestCase):
    def test_every_pod_keeps_the_restricted_profile(self):
        for name, values in ALL.items():
            for kind, _, spec in pods(rendered(values)):
                with self.subTest(values=name, kind=kind):
                    self.check_restricted(spec)

    def check_restricted(self, spec):
        for host in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(host, spec)
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertGreaterEqual(spec["securityContext"]["runAsUser"], 10000)
        self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse(spec["automountServiceAccountToken"])
        for volume in spec.get("volumes", []):
            self.assertLessEqual(set(volume) - {"name"}, {"emptyDir", "secret", "persistentVolumeClaim", "image"})
        for container in spec["containers"] + spec.get("initContainers", []):
            self.assertEqual(container["securityContext"], {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                            "capabilities": {"drop": ["ALL"]}})
            self.assertLessEqual({"cpu", "memory"}, set(container["resources"]["limits"]))

    def test_checkov_finds_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, values in ALL.items():
                (Path(folder) / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered(values)))
            run = subprocess.run([BIN / "checkov", "-d", folder, "--framework", "kubernetes", "--skip-check", NOT_OURS,
                                  "--skip-download", "-o", "json"], capture_output=True, text=True)
        report = yaml.safe_load(run.stdout)
        failed = [f"{c['check_id']} {c['check_name']}: {c['resource']}" for c in report["results"]["failed_checks"]
                  if not (c["check_id"] in NOT_FOR_TESTS and c["resource"].startswith("Pod."))]
        self.assertEqual(failed, [])
        self.assertGreater(report["summary"]["passed"], 300)

    def test_no_service_account_has_a_token(self):
        for name, values in ALL.items():
            with self.subTest(name):
                self.assertIs(one(rendered(values), "ServiceAccount")["automountServiceAccountToken"], False)

    def test_a_network_policy_covers_every_pod(self):
        for name, values in ALL.items():
            objects = rendered(values)
            policies = [o["spec"] for o in objects if o["kind"] == "NetworkPolicy"]
            for kind, metadata, _ in pods(objects):
                covering = [p for p in policies
                            if p["podSelector"]["matchLabels"].items() <= metadata["labels"].items()]
                with self.subTest(values=name, kind=kind):
                    self.assertEqual(len(covering), 1)
                    self.assertEqual(covering[0]["policyTypes"], ["Ingress", "Egress"])

    def test_only_a_download_lets_the_server_out(self):
        for name, values in ALL.items():
            egress = one(rendered(values), "NetworkPolicy")["spec"]["egress"]
            with self.subTest(name):
                self.assertEqual(bool(egress), values.get("model", {}).get("source") == "download")


class Overlays(unittest.TestCase):
    def test_the_base_is_what_the_chart_renders(self):
        for name, text in render_base.base_files().items():
            self.assertEqual((render_base.BASE / name).read_text(), text, "tools/render_base.py --update")

    def test_an_overlay_is_the_chart_with_the_values_of_its_name(self):
        for path in sorted((KUSTOMIZE / "overlays").iterdir()):
            with self.subTest(path.name):
                self.assertEqual(self.comparable(overlay(path.name)), self.comparable(rendered(SETS[path.name], False)))

    def comparable(self, objects):
        """By kind and name, without what is Helm's or Kustomize's own."""
        text = re.sub(r"\bimage-variations-[a-z0-9]{10}\b(?!:)(?=\n|$)", "image-variations", yaml.safe_dump_all(objects))
        known = {}
        for item in map(render_base.without_helm, yaml.safe_load_all(text)):
            if item["kind"] == "Namespace" or item["metadata"]["name"].endswith("-test"):
                continue
            if item["kind"] == "ConfigMap" and item["data"].get("IMAGE_VARIATIONS_PLAINTEXT") == "loopback":
                del item["data"]["IMAGE_VARIATIONS_PLAINTEXT"]  # the default; a generator can add keys, not remove them
            if item["kind"] == "Deployment":
                spec = item["spec"]["template"]["spec"]
                for lists in (spec["volumes"], *(c["volumeMounts"] for c in spec["containers"])):
                    lists.sort(key=lambda entry: entry["name"])
            known[item["kind"], item["metadata"]["name"]] = item
        return known

    def test_overlays_are_valid_for_the_last_five_versions_of_kubernetes(self):
        for name in ("cpu-demo", "gpu", "gpu-mtls"):
            objects = overlay(name)
            for version in KUBERNETES:
                for item in objects:
                    with self.subTest(overlay=name, version=version, kind=item["kind"]):
                        kubernetes_validate.validate(item, version, strict=True)


if __name__ == "__main__":
    unittest.main()
