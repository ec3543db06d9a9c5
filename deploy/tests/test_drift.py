"""Whoever changes a number or a name in one file alone is told so: each such change is made in a copy, and must be noticed."""

import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import test_agreement
from documents import DEPLOY

BUNDLE = "elastic-beanstalk/bundle"
# The file, what stands there, what it becomes, and the test that notices.
CHANGES = [
    ("ecs/service.yaml", "Value: 60s", "Value: 90s", "a_server_has_ended_before_its_platform_kills_it"),
    ("ecs/service.yaml", "StopTimeout: 120", "StopTimeout: 180", "a_server_has_ended_before_its_platform_kills_it"),
    ("ecs/service.yaml", 'Value: "40"', 'Value: "20"', "a_target_is_drained_for_longer_than_a_request_takes"),
    ("ecs/service.yaml", "- {ContainerPort: 8080", "- {ContainerPort: 8081", "everybody_asks_at_the_port_where_the_server_listens"),
    ("ecs/service.yaml", "/healthz/ready", "/healthz/live", "everybody_asks_for_health_by_a_path_that_there_is"),
    ("ecs/service.yaml", "Value: 75s", "Value: 50s", "a_load_balancer_closes_idle_connections_before_the_server_does"),
    ("ecs/service.yaml", "Value: 5m", "Value: 10m", "a_script_has_its_time_to_load_before_anybody_loses_patience"),
    ("ecs/service.yaml", "MetricName: Backlog", "MetricName: Backlogs", "each_metric_of_cloudwatch_is_one_that_the_server_writes_with_those_dimensions"),
    ("ecs/service.yaml", "/${Prefix}/files/", "/files/", "a_server_may_read_and_write_what_its_role_lets_it"),
    ("ecs/service.yaml", "UnhealthyThresholdCount: 10", "UnhealthyThresholdCount: 5",
     "what_is_unhealthy_may_be_so_for_as_long_as_a_database_fails_over"),
    ("ecs/service.yaml", "DUNNAGE_DEVICE", "DUNNAGE_DEVIC", "each_variable_that_is_set_is_one_that_the_server_knows"),
    ("elastic-beanstalk/environment.yaml", "DUNNAGE_BUCKET", "DUNNAGE_BUKET", "each_variable_that_is_set_is_one_that_the_server_knows"),
    ("elastic-beanstalk/environment.yaml", "Default: 5", "Default: 6", "a_service_is_scaled_by_the_same_backlog_everywhere"),
    (f"{BUNDLE}/docker-compose.yml", "80:8080", "80:8000", "everybody_asks_at_the_port_where_the_server_listens"),
    (f"{BUNDLE}/docker-compose.yml", "MODEL_LOG_GROUP", "MODEL_LOGS", "the_bundle_is_told_each_name_that_it_uses"),
    (f"{BUNDLE}/docker-compose.yml", "period: 120s", "period: 100s", "a_server_has_ended_before_its_platform_kills_it"),
    (f"{BUNDLE}/.ebextensions/10-server.config", "Delay: 40", "Delay: 30", "a_target_is_drained_for_longer_than_a_request_takes"),
    (f"{BUNDLE}/.ebextensions/20-scaling.config", "Name: Service", "Name: Server", "services_are_told_apart_by_their_names"),
    ("kubernetes/base/settings.yaml", "GRACE: 5m", "GRACE: 10m", "a_server_has_ended_before_its_platform_kills_it"),
    ("kubernetes/base/settings.yaml", "NAME: model", "NAME: gait", "services_are_told_apart_by_their_names"),
    ("kubernetes/base/deployment.yaml", "/healthz/live", "/healthz/alive", "everybody_asks_for_health_by_a_path_that_there_is"),
    ("kubernetes/base/network-policy.yaml", "port: http", "port: 8081", "everybody_asks_at_the_port_where_the_server_listens"),
    ("kubernetes/overlays/keda/scaled-object.yaml", 'threshold: "5"', 'threshold: "6"',
     "a_service_is_scaled_by_the_same_backlog_everywhere"),
    ("kubernetes/overlays/keda/scaled-object.yaml", "jobs_queued", "jobs_waiting", "each_metric_of_prometheus_is_one_that_the_server_has"),
    ("kubernetes/overlays/hpa/prometheus-adapter.yaml", "as: dunnage_workers_busy_ratio", "as: dunnage_workers_busy",
     "an_autoscaler_asks_the_adapter_for_what_it_tells"),
    ("kubernetes/components/gpu/device.yaml", "cuda:0", "gpu:0", "scripts_see_gpus_by_the_same_name"),
]


class Drift(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copytree(DEPLOY, self.root, ignore=shutil.ignore_patterns("tests"), dirs_exist_ok=True)
        elsewhere = mock.patch.object(test_agreement, "DEPLOY", self.root)
        elsewhere.start()
        self.addCleanup(elsewhere.stop)

    def test_each_change_is_noticed(self):
        for name, was, becomes, test in CHANGES:
            with self.subTest(file=name, becomes=becomes):
                path = self.root / name
                text = path.read_text()
                self.assertIn(was, text)
                path.write_text(text.replace(was, becomes, 1))
                self.assertIn(f"test_{test}", failed())
                path.write_text(text)

    def test_nothing_is_noticed_where_nothing_has_changed(self):
        self.assertEqual(failed(), set())


def failed():
    """The tests of agreement that fail."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(test_agreement.Agreement).run(result)
    return {test._testMethodName for test, _ in result.failures + result.errors}


if __name__ == "__main__":
    unittest.main()
