"""What kustomize makes of our folders is what we mean."""

import shutil
import subprocess
import unittest

import kustomize
import yaml
from documents import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
MADE = ["base", "overlays/hpa", "overlays/keda", "overlays/gpu"]


def made(name):
    """The manifests of a folder, by kind and name."""
    return {kustomize.key(manifest): manifest for manifest in kustomize.compose(KUBERNETES / name)}


def server(name):
    """The server's container in a folder."""
    (container,) = made(name)["Deployment", "model"]["spec"]["template"]["spec"]["containers"]
    return container


class Composition(unittest.TestCase):
    maxDiff = None

    @unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed, which has a kustomize to compare with")
    def test_it_is_what_kubectl_makes(self):
        for name in MADE:
            with self.subTest(name):
                ran = subprocess.run(["kubectl", "kustomize", KUBERNETES / name], capture_output=True, text=True, check=True)
                theirs = {kustomize.key(manifest): manifest for manifest in yaml.safe_load_all(ran.stdout)}
                self.assertEqual(made(name), theirs)

    def test_every_selector_meets_the_pods(self):
        for name in MADE:
            manifests = made(name)
            labels = manifests["Deployment", "model"]["spec"]["template"]["metadata"]["labels"]
            selectors = [
                manifests["Deployment", "model"]["spec"]["selector"]["matchLabels"],
                manifests["Service", "model"]["spec"]["selector"],
                manifests["PodDisruptionBudget", "model"]["spec"]["selector"]["matchLabels"],
                manifests["NetworkPolicy", "model"]["spec"]["podSelector"]["matchLabels"],
            ]
            selectors += [monitor["spec"]["selector"]["matchLabels"] for (kind, _), monitor in manifests.items() if kind == "PodMonitor"]
            for selector in selectors:
                self.assertLessEqual(selector.items(), labels.items(), name)

    def test_whoever_scales_a_deployment_is_the_only_one_to_say_how_many_there_are(self):
        for name, scaler in [("overlays/hpa", "HorizontalPodAutoscaler"), ("overlays/keda", "ScaledObject"),
                             ("overlays/gpu", "HorizontalPodAutoscaler")]:
            manifests = made(name)
            target = manifests[scaler, "model"]["spec"]["scaleTargetRef"]["name"]
            self.assertNotIn("replicas", manifests["Deployment", target]["spec"])
        self.assertEqual(made("base")["Deployment", "model"]["spec"]["replicas"], 2)

    def test_a_gpu_is_limited_asked_for_and_told_to_the_script(self):
        container = server("overlays/gpu")
        self.assertEqual(container["resources"]["limits"]["nvidia.com/gpu"], 1)
        self.assertEqual(made("overlays/gpu")["ConfigMap", "model"]["data"]["DUNNAGE_DEVICE"], "cuda:0")
        names = [metric.get("pods", metric.get("external"))["metric"]["name"]
                 for metric in made("overlays/gpu")["HorizontalPodAutoscaler", "model"]["spec"]["metrics"]]
        self.assertIn("dunnage_gpu_utilization_ratio", names)
        for name in MADE[:3]:
            self.assertNotIn("nvidia.com/gpu", server(name)["resources"]["limits"])

    def test_a_pod_is_confined(self):
        for name in MADE:
            pod = made(name)["Deployment", "model"]["spec"]["template"]["spec"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertNotIn("runAsUser", pod["securityContext"], "any user will do")
            self.assertFalse(pod["automountServiceAccountToken"])
            own = server(name)["securityContext"]
            self.assertEqual((own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]), (True, False))
            self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
            writable = {mount["mountPath"] for mount in server(name)["volumeMounts"] if not mount.get("readOnly")}
            self.assertEqual(writable, {"/data", "/tmp"})

    def test_tokens_can_be_read_by_the_group_and_not_by_others(self):
        pod = made("base")["Deployment", "model"]["spec"]["template"]["spec"]
        (tokens,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        self.assertEqual(tokens["defaultMode"], 0o440)
        self.assertIn("fsGroup", pod["securityContext"])


if __name__ == "__main__":
    unittest.main()
