"""Numbers and names that stand in several files say the same: they drift.

What a platform is told about the end of a server follows from what the server is told, and all of them ask it by the same paths, look
at the same metrics, and set only what there is.
"""

import re
import unittest

import documents
import kustomize
from documents import DEPLOY, ROOT, document, seconds, template

SERVER = ROOT / "crates" / "server" / "src"
PORT = 8080
READY, LIVE, STARTUP = "/healthz/ready", "/healthz/live", "/healthz/startup"
# What a server takes to end beyond `--grace` and `--timeout`: it hands jobs back, ends streams, workers and callbacks.
ENDING = 20
# What Fargate grants at most.
LONGEST_ON_FARGATE = 120
OVERLAYS = ["base", "overlays/hpa", "overlays/keda", "overlays/gpu"]


class Ecs:
    """What the template for ECS says."""

    name = "ecs"

    def __init__(self):
        self.resources = template(DEPLOY / "ecs" / "service.yaml")["Resources"]
        (self.server,) = self.resources["Task"]["Properties"]["ContainerDefinitions"]
        self.targets = self.resources["Targets"]["Properties"]
        self.environment = {variable["Name"]: variable["Value"] for variable in self.server["Environment"]}
        self.secrets = {secret["Name"] for secret in self.server["Secrets"]}

    def attribute(self, resource, key):
        """A number among the attributes of a load balancer or its targets."""
        attributes = [value for name, value in self.resources[resource]["Properties"].items() if name.endswith("Attributes")]
        (found,) = [attribute["Value"] for each in attributes for attribute in each if attribute["Key"] == key]
        return int(found)


class Beanstalk:
    """What the bundle for Elastic Beanstalk says, with its template."""

    name = "elastic-beanstalk"

    def __init__(self):
        folder = DEPLOY / "elastic-beanstalk"
        self.server = document(folder / "bundle" / "docker-compose.yml")["services"]["server"]
        self.options, self.added = {}, {}
        for extension in sorted((folder / "bundle" / ".ebextensions").iterdir()):
            read = document(extension)
            self.options |= {(space, name): value for space, options in read["option_settings"].items() for name, value in options.items()}
            self.added |= read.get("Resources", {})
        settings = template(folder / "environment.yaml")["Resources"]["Environment"]["Properties"]["OptionSettings"]
        self.given = [option for option in settings if "Namespace" in option]
        variables = [option["OptionName"] for option in self.given if "application:environment" in option["Namespace"]]
        self.variables = set(variables)
        self.environment = self.server["environment"]

    def process(self, option):
        return self.options["aws:elasticbeanstalk:environment:process:default", option]


class Kubernetes:
    """What kustomize makes of an overlay."""

    def __init__(self, overlay):
        self.name = overlay
        self.manifests = {kustomize.key(manifest): manifest for manifest in kustomize.compose(DEPLOY / "kubernetes" / overlay)}
        self.pod = self.manifests["Deployment", "model"]["spec"]["template"]["spec"]
        (self.server,) = self.pod["containers"]
        (settings,) = [source["configMapRef"]["name"] for source in self.server["envFrom"] if "configMapRef" in source]
        self.environment = self.manifests["ConfigMap", settings]["data"]
        self.secrets = {variable["name"] for variable in self.server["env"]}


class Agreement(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.ecs, cls.beanstalk = Ecs(), Beanstalk()
        cls.kubernetes = [Kubernetes(overlay) for overlay in OVERLAYS]
        cls.platforms = [cls.ecs, cls.beanstalk, *cls.kubernetes]

    def ends_within(self, platform):
        """How long a server may take to end, by what it is told."""
        return seconds(platform.environment["DUNNAGE_GRACE"]) + seconds(platform.environment["DUNNAGE_TIMEOUT"]) + ENDING

    def test_a_server_has_ended_before_its_platform_kills_it(self):
        stop = self.ecs.server["StopTimeout"]
        self.assertLessEqual(stop, LONGEST_ON_FARGATE)
        self.assertLessEqual(self.ends_within(self.ecs), stop)
        self.assertLessEqual(self.ends_within(self.beanstalk), seconds(self.beanstalk.server["stop_grace_period"]))
        for made in self.kubernetes:
            pause = made.server["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertLessEqual(pause + self.ends_within(made), made.pod["terminationGracePeriodSeconds"], made.name)

    def test_a_target_is_drained_for_longer_than_a_request_takes(self):
        drained = self.ecs.attribute("Targets", "deregistration_delay.timeout_seconds")
        self.assertGreater(drained, seconds(self.ecs.environment["DUNNAGE_TIMEOUT"]))
        self.assertGreater(self.beanstalk.process("DeregistrationDelay"), seconds(self.beanstalk.environment["DUNNAGE_TIMEOUT"]))

    def test_a_load_balancer_closes_idle_connections_before_the_server_does(self):
        idle = self.ecs.attribute("LoadBalancer", "idle_timeout.timeout_seconds")
        self.assertLess(idle, seconds(self.ecs.environment["DUNNAGE_KEEP_ALIVE"]))
        self.assertGreater(idle, seconds(self.ecs.environment["DUNNAGE_TIMEOUT"]))
        # Elastic Beanstalk leaves its load balancer at 60 s.
        self.assertLess(60, seconds(self.beanstalk.environment["DUNNAGE_KEEP_ALIVE"]))

    def test_a_script_has_its_time_to_load_before_anybody_loses_patience(self):
        self.assertGreater(
            self.ecs.resources["Service"]["Properties"]["HealthCheckGracePeriodSeconds"],
            seconds(self.ecs.environment["DUNNAGE_LOAD_TIMEOUT"]),
        )
        self.assertGreater(
            self.beanstalk.options["aws:elasticbeanstalk:command", "Timeout"], seconds(self.beanstalk.environment["DUNNAGE_LOAD_TIMEOUT"])
        )
        for made in self.kubernetes:
            probe, loading = made.server["startupProbe"], seconds(made.environment["DUNNAGE_LOAD_TIMEOUT"])
            self.assertGreater(probe["periodSeconds"] * probe["failureThreshold"], loading, made.name)
            self.assertGreater(made.manifests["Deployment", "model"]["spec"]["progressDeadlineSeconds"], loading, made.name)

    def test_everybody_asks_at_the_port_where_the_server_listens(self):
        self.assertEqual(documents.settings()["DUNNAGE_PORT"], str(PORT))
        (mapped,) = self.ecs.server["PortMappings"]
        (balanced,) = self.ecs.resources["Service"]["Properties"]["LoadBalancers"]
        groups = self.ecs.resources["TaskGroup"]["Properties"]["SecurityGroupIngress"][0]
        out = self.ecs.resources["LoadBalancerToTasks"]["Properties"]
        ports = {mapped["ContainerPort"], balanced["ContainerPort"], self.ecs.targets["Port"],
                 groups["FromPort"], groups["ToPort"], out["FromPort"], out["ToPort"]}
        self.assertEqual(ports, {PORT})
        self.assertEqual(self.beanstalk.server["ports"], [f"{self.beanstalk.process('Port')}:{PORT}"])
        for made in self.kubernetes:
            (port,) = made.server["ports"]
            self.assertEqual(port["containerPort"], PORT)
            (service,) = made.manifests["Service", "model"]["spec"]["ports"]
            (allowed,) = made.manifests["NetworkPolicy", "model"]["spec"]["ingress"][0]["ports"]
            probes = {made.server[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
            self.assertEqual({service["targetPort"], allowed["port"], *probes}, {port["name"]})

    def test_everybody_asks_for_health_by_a_path_that_there_is(self):
        routes = (SERVER / "routes" / "health.rs").read_text()
        for path in (READY, LIVE, STARTUP):
            self.assertIn(f'path = "{path}"', routes)
        self.assertEqual(self.ecs.targets["HealthCheckPath"], READY)
        self.assertEqual(self.beanstalk.process("HealthCheckPath"), READY)
        for made in self.kubernetes:
            asked = [made.server[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe", "startupProbe")]
            self.assertEqual(asked, [READY, LIVE, STARTUP])
        (endpoint,) = self.kubernetes[1].manifests["PodMonitor", "model"]["spec"]["podMetricsEndpoints"]
        self.assertEqual(endpoint["path"], "/metrics")

    def test_what_is_unhealthy_may_be_so_for_as_long_as_a_database_fails_over(self):
        two_minutes = 120
        checks = self.ecs.targets["HealthCheckIntervalSeconds"] * self.ecs.targets["UnhealthyThresholdCount"]
        self.assertGreater(checks, two_minutes)
        self.assertGreater(self.beanstalk.process("HealthCheckInterval") * self.beanstalk.process("UnhealthyThresholdCount"), two_minutes)

    def test_each_variable_that_is_set_is_one_that_the_server_knows(self):
        known = set(documents.settings())
        used = set(self.ecs.environment) | self.ecs.secrets | set(self.beanstalk.environment) | self.beanstalk.variables
        used |= {name for made in self.kubernetes for name in (*made.environment, *made.secrets)}
        unknown = {name for name in used if name not in known and not name.startswith("MODEL_")}
        self.assertEqual(unknown, set())

    def test_the_bundle_is_told_each_name_that_it_uses(self):
        texts = [path.read_text() for path in (DEPLOY / "elastic-beanstalk" / "bundle").rglob("*") if path.is_file()]
        used = {name for text in texts for name in re.findall(r"MODEL_\w+", text)}
        self.assertEqual(used, {name for name in self.beanstalk.variables if name.startswith("MODEL_")})
        self.assertFalse(set(self.beanstalk.environment) & self.beanstalk.variables, "no variable has two places")

    def test_an_option_of_the_environment_has_one_place(self):
        given = {(option["Namespace"], option["OptionName"]) for option in self.beanstalk.given}
        self.assertFalse(given & set(self.beanstalk.options))

    def test_each_metric_of_prometheus_is_one_that_the_server_has(self):
        texts = [path.read_text() for path in (DEPLOY / "kubernetes").rglob("*.yaml")]
        used = {name for text in texts for name in re.findall(r"dunnage_[a-z_]+", text)}
        adapter = document(DEPLOY / "kubernetes" / "overlays" / "hpa" / "prometheus-adapter.yaml")["rules"]
        renamed = {rule["name"]["as"] for rules in (adapter["custom"], adapter["external"]) for rule in rules}
        asked = {name for rules in (adapter["custom"], adapter["external"]) for rule in rules
                 for name in re.findall(r"dunnage_[a-z_]+", rule["seriesQuery"])}
        source = "".join(path.read_text() for path in SERVER.rglob("*.rs"))
        has = {f"dunnage_{name}" for name in re.findall(r'"([a-z_]+)"', source)}
        self.assertLessEqual((used - renamed) | asked, has)

    def test_an_autoscaler_asks_the_adapter_for_what_it_tells(self):
        adapter = document(DEPLOY / "kubernetes" / "overlays" / "hpa" / "prometheus-adapter.yaml")["rules"]
        told = {"External": {rule["name"]["as"] for rule in adapter["external"]}, "Pods": {rule["name"]["as"] for rule in adapter["custom"]}}
        for made in self.kubernetes:
            scaler = made.manifests.get(("HorizontalPodAutoscaler", "model"))
            for metric in scaler["spec"]["metrics"] if scaler else []:
                kind = metric["type"]
                self.assertIn(metric[kind.lower()]["metric"]["name"], told[kind])

    def test_each_metric_of_cloudwatch_is_one_that_the_server_writes_with_those_dimensions(self):
        source, tests = (SERVER / "signals" / "document.rs").read_text().split("#[cfg(test)]")
        of_replica, of_gpu = source.split("fn of_gpu")
        writes = {name: ["Service"] for name in re.findall(r'(?:\("|name: ")([A-Z]\w+)"', of_replica)}
        writes |= {name: ["Service", "Device"] for name in re.findall(r'Metric::\w+\("(\w+)"', of_gpu)}
        self.assertIn('["Service"]', of_replica)
        self.assertIn('["Service", "Device"]', of_gpu)
        asked = dunnage_metrics([self.ecs.resources, self.beanstalk.added])
        for metric in asked:
            names = [dimension["Name"] for dimension in metric["Dimensions"]]
            self.assertEqual(names, writes.get(metric["MetricName"]), metric["MetricName"])
        self.assertIn("Backlog", {metric["MetricName"] for metric in asked})

    def test_metrics_are_written_as_often_as_they_are_looked_at(self):
        # Target tracking looks at minutes.
        self.assertEqual(documents.settings()["DUNNAGE_METRICS_INTERVAL"], "1m")
        for platform in (self.ecs, self.beanstalk):
            self.assertEqual(platform.environment["DUNNAGE_METRICS"], "emf")
            self.assertNotIn("DUNNAGE_METRICS_INTERVAL", platform.environment)

    def test_services_are_told_apart_by_their_names(self):
        self.assertEqual(self.ecs.environment["DUNNAGE_NAME"], {"Ref": "ServiceName"})
        for metric in dunnage_metrics(self.ecs.resources):
            self.assertEqual(metric["Dimensions"][0], {"Name": "Service", "Value": {"Ref": "ServiceName"}})
        for metric in dunnage_metrics(self.beanstalk.added):
            (dimension,) = metric["Dimensions"]
            self.assertEqual((dimension["Name"], dimension["Value"]["Fn::GetOptionSetting"]["OptionName"]), ("Service", "DUNNAGE_NAME"))
        for made in self.kubernetes:
            name = made.environment["DUNNAGE_NAME"]
            for manifest in made.manifests.values():
                self.assertLessEqual(set(re.findall(r'service="([^"]*)"', str(manifest))), {name})
            scaler = made.manifests.get(("HorizontalPodAutoscaler", "model"))
            for metric in scaler["spec"]["metrics"] if scaler else []:
                if "external" in metric:
                    self.assertEqual(metric["external"]["metric"]["selector"]["matchLabels"], {"service": name})

    def test_scripts_see_gpus_by_the_same_name(self):
        self.assertEqual(self.kubernetes[3].environment["DUNNAGE_DEVICE"], self.ecs.environment["DUNNAGE_DEVICE"]["Fn::If"][1])

    def test_a_service_is_scaled_by_the_same_backlog_everywhere(self):
        ecs = template(DEPLOY / "ecs" / "service.yaml")["Parameters"]["BacklogPerTask"]["Default"]
        beanstalk = template(DEPLOY / "elastic-beanstalk" / "environment.yaml")["Parameters"]["BacklogPerInstance"]["Default"]
        external = self.kubernetes[1].manifests["HorizontalPodAutoscaler", "model"]["spec"]["metrics"][0]["external"]
        trigger = self.kubernetes[2].manifests["ScaledObject", "model"]["spec"]["triggers"][0]
        found = {ecs, beanstalk, int(external["target"]["averageValue"]), int(trigger["metadata"]["threshold"])}
        self.assertEqual(len(found), 1, found)

    def test_a_server_may_read_and_write_what_its_role_lets_it(self):
        for platform in (self.ecs, *self.kubernetes):
            bucket = str(platform.environment["DUNNAGE_BUCKET"])
            prefix = re.search(r"s3://[^'/]+/[^'/]+", bucket)[0]
            for name in ("DUNNAGE_ALLOW_FILES", "DUNNAGE_ALLOW_OUTPUT"):
                self.assertIn(prefix + "/", str(platform.environment[name]), platform.name)

    def test_the_image_is_as_the_platforms_take_it_to_be(self):
        image = (ROOT / "docker" / "Dockerfile").read_text()
        self.assertIn(f"EXPOSE {PORT}", image)
        self.assertIn("DUNNAGE_HOST=0.0.0.0", image)
        (volumes,) = re.findall(r"^VOLUME (.+)$", image, re.MULTILINE)
        for platform in self.platforms:
            self.assertEqual(platform.environment["DUNNAGE_DATA_DIR"], "/data")
            self.assertIn('"/data"', volumes)
        # A user by number: Kubernetes cannot tell whether a name is root's.
        self.assertTrue(re.findall(r"^USER \d+", image, re.MULTILINE))


def dunnage_metrics(value):
    """Each metric of ours that is asked for somewhere in a template."""
    if isinstance(value, list):
        return [metric for each in value for metric in dunnage_metrics(each)]
    if not isinstance(value, dict):
        return []
    own = [value] if value.get("Namespace") == "Dunnage" else []
    return own + [metric for each in value.values() for metric in dunnage_metrics(each)]


if __name__ == "__main__":
    unittest.main()
