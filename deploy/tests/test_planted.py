"""A mistake in any deployment file is found: each is planted in a copy of that file, and the tools must complain of it."""

import shutil
import tempfile
import unittest
from pathlib import Path

import validators
from documents import DEPLOY, deployed

# The file, what stands there, what is planted in its place, and what the complaint tells.
MISTAKES = [
    # A property that does not exist, a wrong type, a reference to nothing, a value that is not allowed.
    ("ecs/service.yaml", "HealthCheckPath: /healthz/ready", "HealthPath: /healthz/ready", "HealthPath"),
    ("ecs/service.yaml", "StopTimeout: 120", "StopTimeout: long", "long"),
    ("ecs/service.yaml", "TaskRoleArn: !GetAtt TaskRole.Arn", "TaskRoleArn: !GetAtt TaskRoll.Arn", "TaskRoll"),
    ("ecs/service.yaml", "PolicyType: TargetTrackingScaling", "PolicyType: TargetTracking", "TargetTracking"),
    ("elastic-beanstalk/environment.yaml", "SolutionStackName: !Ref Platform", "SolutionStack: !Ref Platform", "SolutionStack"),
    ("elastic-beanstalk/environment.yaml", "Roles: [!Ref InstanceRole]", "Roles: !Ref InstanceRole", "array"),
    ("elastic-beanstalk/environment.yaml", "VPCId, Value: !Ref Vpc", "VPCId, Value: !Ref Network", "Network"),
    ("elastic-beanstalk/bundle/docker-compose.yml", "read_only: true", "readonly: true", "readonly"),
    ("elastic-beanstalk/bundle/docker-compose.yml", "cap_drop: [ALL]", "cap_drop: ALL", "cap_drop"),
    ("elastic-beanstalk/bundle/.ebextensions/10-server.config", "ProxyServer: none", "ProxyServer: off", "ProxyServer"),
    ("elastic-beanstalk/bundle/.ebextensions/10-server.config", "DeregistrationDelay: 40", "DrainDelay: 40", "DrainDelay"),
    ("elastic-beanstalk/bundle/.ebextensions/20-scaling.config", "UpperThreshold: 90", "UpperThreshold: lots", "lots"),
    ("elastic-beanstalk/bundle/.ebextensions/20-scaling.config", "Stat: Maximum", "Statistics: Maximum", "Statistics"),
    ("elastic-beanstalk/bundle/.platform/hooks/prebuild/10-registry.sh", "set -euo pipefail", "if then", "syntax error"),
    # Kubernetes
    ("kubernetes/base/deployment.yaml", "apiVersion: apps/v1", "apiVersion: apps/v1beta1", "apps/v1beta1"),
    ("kubernetes/base/deployment.yaml", "failureThreshold: 66", "failureTreshold: 66", "failureTreshold"),
    ("kubernetes/base/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: often", "often"),
    ("kubernetes/base/disruption-budget.yaml", "apiVersion: policy/v1", "apiVersion: policy/v1beta1", "policy/v1beta1"),
    ("kubernetes/base/network-policy.yaml", "podSelector:\n    matchLabels", "podSelector:\n    labels", "labels"),
    ("kubernetes/base/service.yaml", "port: 80", "port: eighty", "eighty"),
    ("kubernetes/base/service-account.yaml", "kind: ServiceAccount", "kind: ServiceAcount", "ServiceAcount"),
    ("kubernetes/overlays/hpa/autoscaler.yaml", "maxReplicas: 10", "maxReplica: 10", "maxReplica"),
    ("kubernetes/overlays/hpa/prometheus-adapter.yaml", "metricsQuery: max", "metricQuery: max", "metricQuery"),
    ("kubernetes/overlays/keda/scaled-object.yaml", "apiVersion: keda.sh/v1alpha1", "apiVersion: keda.sh/v1", "keda.sh/v1"),
    ("kubernetes/overlays/keda/scaled-object.yaml", 'threshold: "5"', "threshold: 5", "threshold"),
    ("kubernetes/components/monitoring/pod-monitor.yaml", "podMetricsEndpoints:", "endpoints:", "endpoints"),
    # What kustomize would not find, or would find too often.
    ("kubernetes/base/kustomization.yaml", "- service.yaml", "- services.yaml", "services.yaml` does not exist"),
    ("kubernetes/base/kustomization.yaml", "- name: dunnage", "- name: dunnish", "no container has"),
    ("kubernetes/overlays/hpa/kustomization.yaml", "kind: Deployment", "kind: StatefulSet", "does not have"),
    ("kubernetes/overlays/hpa/kustomization.yaml", "../../components/monitoring", "../../components/watching", "watching"),
    ("kubernetes/overlays/keda/kustomization.yaml", "path: scaled.yaml", "path: scale.yaml", "scale.yaml` does not exist"),
    ("kubernetes/overlays/gpu/kustomization.yaml", "- ../hpa", "- ../hpa\n  - ../../base", "several"),
    ("kubernetes/components/gpu/kustomization.yaml", "kind: Component", "kind: Kustomization", "is no Component"),
    ("kubernetes/components/monitoring/kustomization.yaml", "resources:", "resource:", "resource"),
    ("kubernetes/components/gpu/gpu.yaml", "/spec/strategy/rollingUpdate", "/spec/strategies/rollingUpdate", "does not fit"),
    ("kubernetes/components/gpu/device.yaml", "value: cuda:0", "values: cuda:0", "values"),
    ("kubernetes/base/settings.yaml", "DUNNAGE_GRACE: 5m", "DUNNAGE_GRACE: 300", "300"),
    ("kubernetes/overlays/hpa/scaled.yaml", "op: remove", "op: delete", "delete"),
    ("kubernetes/overlays/keda/scaled.yaml", "/spec/replicas", "/spec/replica", "does not fit"),
    ("kubernetes/overlays/gpu/autoscaler.yaml", "averageValue: 700m", "averageValu: 700m", "averageValu"),
]


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "deploy"
        shutil.copytree(DEPLOY, self.root, ignore=shutil.ignore_patterns("tests"))

    def test_each_mistake_is_complained_of(self):
        for name, right, wrong, told in MISTAKES:
            with self.subTest(file=name, planted=wrong):
                found = "\n".join(self.complaints_with(name, right, wrong))
                self.assertIn(told, found)

    def test_there_is_a_mistake_for_each_file(self):
        files = {str(path.relative_to(DEPLOY)) for path in deployed()}
        self.assertEqual({name for name, *_ in MISTAKES}, files)

    def test_a_file_that_nothing_checks_is_complained_of(self):
        (self.root / "kubernetes" / "notes.txt").write_text("by hand: kubectl scale")
        self.assertIn("kubernetes/notes.txt: nothing checks it", validators.complaints(self.root))

    def test_a_script_that_cannot_be_run_is_complained_of(self):
        name = "elastic-beanstalk/bundle/.platform/hooks/prebuild/10-registry.sh"
        (self.root / name).chmod(0o644)
        self.assertEqual(validators.of_file(self.root / name, name), ["it cannot be run"])

    def complaints_with(self, name, right, wrong):
        """What is said of a file, or else of what kustomize makes of it, while the mistake is in it."""
        path = self.root / name
        text = path.read_text()
        self.assertIn(right, text)
        path.write_text(text.replace(right, wrong, 1))
        try:
            return validators.of_file(path, name) or validators.of_compositions(self.root / "kubernetes")
        finally:
            path.write_text(text)


if __name__ == "__main__":
    unittest.main()
