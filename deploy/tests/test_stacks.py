"""The CloudFormation stacks come into being, in every variant, and what they make is what we mean."""

import json
import os
import unittest
import warnings
from contextlib import ExitStack
from unittest import mock

import boto3
import stand_ins
import yaml
from documents import DEPLOY, template
from moto import mock_aws

ECS = DEPLOY / "ecs" / "service.yaml"
BEANSTALK = DEPLOY / "elastic-beanstalk" / "environment.yaml"
ACCOUNT = "123456789012"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}


class Account(unittest.TestCase):
    """An account of moto's with what a stack finds there: a network, two secrets, a bucket, an image for instances, a certificate."""

    @classmethod
    def setUpClass(cls):
        opened = ExitStack()
        cls.addClassCleanup(opened.close)
        opened.enter_context(mock.patch.dict(os.environ, CREDENTIALS))
        opened.enter_context(mock_aws())
        # What moto does not make is an error, and not a warning.
        opened.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("error", message="Tried to parse")
        stand_ins.made.clear()
        ec2, secrets = boto3.client("ec2"), boto3.client("secretsmanager")
        cls.vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        cls.subnets = ",".join(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2])
        cls.tokens = secrets.create_secret(Name="tokens", SecretString="infer,train dunnage_x")["ARN"]
        cls.database = secrets.create_secret(Name="database", SecretString="postgres://db.example/models")["ARN"]
        cls.certificate = boto3.client("acm").request_certificate(DomainName="models.example")["CertificateArn"]
        boto3.client("s3").create_bucket(Bucket="models")
        boto3.client("s3").put_object(Bucket="models", Key="bundle.zip", Body=b"")
        boto3.client("ssm").put_parameter(Name="/images/gpu", Value="ami-12c6146b", Type="String")

    @classmethod
    def stack(cls, path, **parameters):
        cls.written, cls.parameters = template(path), parameters
        client = boto3.client("cloudformation")
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        client.create_stack(StackName="model", TemplateBody=path.read_text(), Parameters=given, Capabilities=["CAPABILITY_IAM"])
        described = client.describe_stack_resources(StackName="model")["StackResources"]
        # moto describes what a condition has left out by an entry without a name.
        cls.resources = {
            resource["LogicalResourceId"]: resource.get("PhysicalResourceId") for resource in described if "LogicalResourceId" in resource
        }
        (cls.described,) = client.describe_stacks(StackName="model")["Stacks"]
        cls.outputs = {output["OutputKey"]: output["OutputValue"] for output in cls.described["Outputs"]}

    def assert_complete(self):
        """That there is each resource whose condition holds, and no other."""
        self.assertEqual(self.described["StackStatus"], "CREATE_COMPLETE")
        values = {name: str(parameter.get("Default", "")) for name, parameter in self.written["Parameters"].items()} | self.parameters
        holds = {name: decide(condition, values) for name, condition in self.written["Conditions"].items()}
        resources = self.written["Resources"].items()
        self.assertEqual(set(self.resources), {name for name, resource in resources if holds.get(resource.get("Condition"), True)})

    def statements(self, role):
        """What a role of the stack may do, by action."""
        client, name = boto3.client("iam"), self.resources[role]
        allowed = {}
        for policy in client.list_role_policies(RoleName=name)["PolicyNames"]:
            document = client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            # moto keeps one that a stack has made as a text.
            document = yaml.safe_load(document) if isinstance(document, str) else document
            for statement in document["Statement"]:
                actions, resources = statement["Action"], statement["Resource"]
                for action in [actions] if isinstance(actions, str) else actions:
                    allowed[action] = {resources} if isinstance(resources, str) else set(resources)
        self.assertFalse([action for action in allowed if "*" in action])
        return allowed


class OnEcs(Account):
    """What a stack for ECS is asked about."""

    @classmethod
    def start(cls, **parameters):
        network = {"Vpc": cls.vpc, "LoadBalancerSubnets": cls.subnets, "TaskSubnets": cls.subnets}
        cls.stack(ECS, **network, Repository="gait", TokensSecretArn=cls.tokens, InstanceImage="/images/gpu", **parameters)

    def task(self):
        task = boto3.client("ecs").describe_task_definition(taskDefinition=self.resources["Task"])["taskDefinition"]
        (server,) = task["containerDefinitions"]
        return task, server

    def balancer(self):
        client = boto3.client("elbv2")
        (balancer,) = client.describe_load_balancers()["LoadBalancers"]
        (listener,) = client.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
        return balancer, listener

    def policies(self):
        found = boto3.client("application-autoscaling").describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
        return {policy["PolicyName"]: policy["TargetTrackingScalingPolicyConfiguration"] for policy in found}


class OnFargate(OnEcs):
    """With a database and a bucket that were there before."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start(DatabaseUrlSecretArn=cls.database, Bucket="models", BacklogPerTask="7", MaxTasks="20")

    def test_all_of_it_is_made(self):
        self.assert_complete()

    def test_a_task_is_confined_and_has_its_secrets_from_the_store(self):
        task, server = self.task()
        self.assertEqual((task["requiresCompatibilities"], task["networkMode"]), (["FARGATE"], "awsvpc"))
        self.assertEqual(server["image"], f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/gait:latest")
        self.assertTrue(server["readonlyRootFilesystem"])
        secrets = {secret["name"]: secret["valueFrom"] for secret in server["secrets"]}
        self.assertEqual(secrets, {"DUNNAGE_DATABASE_URL": self.database, "DUNNAGE_TOKENS": self.tokens})
        environment = {variable["name"]: variable["value"] for variable in server["environment"]}
        self.assertFalse(set(environment) & set(secrets))
        self.assertEqual(environment["DUNNAGE_BUCKET"], "s3://models/dunnage")
        self.assertEqual(environment["DUNNAGE_DEVICE"], "cpu")
        self.assertEqual(environment["DUNNAGE_ECS_TASK_PROTECTION"], "true")
        self.assertFalse(server.get("resourceRequirements"))

    def test_roles_may_do_what_is_needed_and_no_more(self):
        tasks = self.statements("TaskRole")
        objects = {"arn:aws:s3:::models/dunnage/*"}
        for action in ("GetObject", "GetObjectVersion", "PutObject", "DeleteObject", "AbortMultipartUpload"):
            self.assertEqual(tasks.pop(f"s3:{action}"), objects)
        for action in ("ListBucket", "ListBucketMultipartUploads"):
            self.assertEqual(tasks.pop(f"s3:{action}"), {"arn:aws:s3:::models"})
        own = {f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/{self.outputs['ClusterName']}/*"}
        self.assertEqual(tasks, {"ecs:GetTaskProtection": own, "ecs:UpdateTaskProtection": own})
        starting = self.statements("ExecutionRole")
        self.assertEqual(starting["secretsmanager:GetSecretValue"], {self.database, self.tokens})
        self.assertEqual(starting["ecr:BatchGetImage"], {f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/gait"})
        self.assertIn("/dunnage/model", starting["logs:PutLogEvents"].pop())
        self.assertEqual({action for action, resources in starting.items() if "*" in resources}, {"ecr:GetAuthorizationToken"})
        for role in ("TaskRole", "ExecutionRole"):
            attached = boto3.client("iam").list_attached_role_policies(RoleName=self.resources[role])
            self.assertEqual(attached["AttachedPolicies"], [])

    def test_a_load_balancer_without_a_certificate_stays_inside(self):
        balancer, listener = self.balancer()
        self.assertEqual((balancer["Scheme"], listener["Protocol"], listener["Port"]), ("internal", "HTTP", 80))
        self.assertTrue(self.outputs["Url"].startswith("http://"))

    def test_tasks_are_judged_by_whether_they_are_ready_and_drained_before_they_end(self):
        (targets,) = boto3.client("elbv2").describe_target_groups()["TargetGroups"]
        self.assertEqual((targets["HealthCheckPath"], targets["Port"]), ("/healthz/ready", 8080))
        self.assertEqual(targets["Matcher"], {"HttpCode": "200"})
        (service,) = boto3.client("ecs").describe_services(
            cluster=self.outputs["ClusterName"], services=[self.outputs["ServiceArn"]]
        )["services"]
        (balanced,) = service["loadBalancers"]
        self.assertEqual((balanced["containerPort"], balanced["targetGroupArn"]), (8080, targets["TargetGroupArn"]))

    def test_tasks_are_scaled_by_the_backlog_of_each(self):
        (target,) = boto3.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
        self.assertEqual((target["MinCapacity"], target["MaxCapacity"]), (2, 20))
        self.assertEqual(set(self.policies()), {"backlog-per-task", "busy-job-workers", "busy-workers", "bytes-out-per-task"})
        backlog = self.policies()["backlog-per-task"]
        self.assertEqual(backlog["TargetValue"], 7.0)
        asked = {metric["Id"]: metric for metric in backlog["CustomizedMetricSpecification"]["Metrics"]}
        self.assertEqual(asked["backlog_per_task"]["Expression"], "backlog / tasks")
        self.assertEqual([name for name, metric in asked.items() if metric["ReturnData"]], ["backlog_per_task"])
        running = self.policies()["busy-job-workers"]
        expressions = [metric.get("Expression") for metric in running["CustomizedMetricSpecification"]["Metrics"]]
        self.assertEqual((running["TargetValue"], expressions), (0.7, [None, None, "running / tasks"]))
        dimensions = asked["tasks"]["MetricStat"]["Metric"]["Dimensions"]
        self.assertEqual(dimensions[0], {"Name": "ClusterName", "Value": self.outputs["ClusterName"]})
        self.assertIn(f"service/{self.outputs['ClusterName']}/{dimensions[1]['Value']}", target["ResourceId"])


class WithEverythingMade(OnEcs):
    """With a database and a bucket of its own, and a certificate."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start(CertificateArn=cls.certificate, Scheme="internet-facing")

    def test_all_of_it_is_made(self):
        self.assert_complete()

    def test_a_database_and_a_bucket_are_made_where_none_are_named(self):
        (database,) = boto3.client("rds").describe_db_instances()["DBInstances"]
        self.assertEqual((database["Engine"], database["PubliclyAccessible"]), ("postgres", False))
        self.assertTrue(database["StorageEncrypted"])
        _, server = self.task()
        secrets = {secret["name"]: secret["valueFrom"] for secret in server["secrets"]}
        url = boto3.client("secretsmanager").get_secret_value(SecretId=secrets["DUNNAGE_DATABASE_URL"])["SecretString"]
        self.assertRegex(url, r"^postgres://dunnage:[A-Za-z0-9]{40}@[a-z0-9.-]+:5432/dunnage\?sslmode=require$")
        self.assertEqual(self.statements("ExecutionRole")["secretsmanager:GetSecretValue"], {secrets["DUNNAGE_DATABASE_URL"], self.tokens})
        bucket = self.outputs["BucketName"]
        boto3.client("s3").head_bucket(Bucket=bucket)
        # moto forgets it.
        closed = self.written["Resources"]["NewBucket"]["Properties"]["PublicAccessBlockConfiguration"]
        self.assertEqual(list(closed.values()), [True] * 4)
        self.assertEqual(self.statements("TaskRole")["s3:PutObject"], {f"arn:aws:s3:::{bucket}/dunnage/*"})

    def test_only_the_load_balancer_reaches_tasks_and_only_tasks_the_database(self):
        groups = {group["GroupId"]: group for group in boto3.client("ec2").describe_security_groups()["SecurityGroups"]}

        def who(name, port):
            (rule,) = groups[self.resources[name]]["IpPermissions"]
            self.assertEqual((rule["FromPort"], rule["ToPort"], rule["IpRanges"]), (port, port, []))
            return [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]

        self.assertEqual(who("TaskGroup", 8080), [self.resources["LoadBalancerGroup"]])
        self.assertEqual(who("DatabaseGroup", 5432), [self.resources["TaskGroup"]])

    def test_a_load_balancer_with_a_certificate_may_face_the_internet(self):
        balancer, listener = self.balancer()
        self.assertEqual((balancer["Scheme"], listener["Protocol"], listener["Port"]), ("internet-facing", "HTTPS", 443))
        self.assertEqual(listener["Certificates"], [{"CertificateArn": self.certificate}])
        self.assertTrue(self.outputs["Url"].startswith("https://"))


class OnInstances(OnEcs):
    """With GPUs."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start(DatabaseUrlSecretArn=cls.database, Bucket="models", Capacity="EC2", Gpus="1", Cpu="2048", Memory="8192")

    def test_all_of_it_is_made(self):
        self.assert_complete()

    def test_gpus_are_on_instances_and_scaled_by(self):
        task, server = self.task()
        self.assertEqual(task["requiresCompatibilities"], ["EC2"])
        self.assertEqual(server["resourceRequirements"], [{"type": "GPU", "value": "1"}])
        self.assertIn({"name": "DUNNAGE_DEVICE", "value": "cuda:0"}, server["environment"])
        (group,) = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        self.assertTrue(group["NewInstancesProtectedFromScaleIn"])
        provider = stand_ins.made["InstanceCapacity"]["AutoScalingGroupProvider"]
        self.assertEqual(provider["ManagedTerminationProtection"], "ENABLED")
        self.assertEqual(stand_ins.made["CapacityProviders"]["CapacityProviders"], [self.resources["InstanceCapacity"]])
        self.assertIn("gpu-utilization", self.policies())


class Rules(unittest.TestCase):
    def test_rules_refuse_gpus_on_fargate_and_tokens_in_the_clear(self):
        self.assertEqual(refused(Gpus="1"), ["GpusAreOnInstances"])
        self.assertEqual(refused(Gpus="1", Capacity="EC2"), [])
        self.assertEqual(refused(Scheme="internet-facing"), ["TokensAreNotSentInTheClear"])
        self.assertEqual(refused(Scheme="internet-facing", CertificateArn="arn"), [])
        self.assertEqual(refused(), [])


class OnBeanstalk(Account):
    """What a stack for Elastic Beanstalk is asked about."""

    @classmethod
    def start(cls, **parameters):
        network = {"Vpc": cls.vpc, "LoadBalancerSubnets": cls.subnets, "InstanceSubnets": cls.subnets}
        bundle = {"BundleBucket": "models", "BundleKey": "bundle.zip"}
        secrets = {"DatabaseUrlSecretArn": cls.database, "TokensSecretArn": cls.tokens}
        cls.stack(BEANSTALK, **network, **bundle, **secrets, Repository="gait", Bucket="models", **parameters)
        cls.settings = stand_ins.made["Environment"]["OptionSettings"]
        cls.options = {(option["Namespace"], option["OptionName"]): option["Value"] for option in cls.settings}

    def assert_each_option_is_said_once(self):
        self.assertEqual(len(self.options), len(self.settings))


class WithoutCertificate(OnBeanstalk):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start()

    def test_all_of_it_is_made(self):
        self.assert_complete()
        self.assert_each_option_is_said_once()

    def test_an_environment_has_its_image_its_secrets_and_its_network(self):
        variables = "aws:elasticbeanstalk:application:environment"
        self.assertEqual(self.options[variables, "MODEL_IMAGE"], f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/gait:latest")
        self.assertEqual(self.options[variables, "DUNNAGE_BUCKET"], "s3://models/dunnage")
        self.assertEqual(self.options[variables + "secrets", "DUNNAGE_TOKENS"], self.tokens)
        self.assertEqual(self.options[variables + "secrets", "DUNNAGE_DATABASE_URL"], self.database)
        self.assertEqual(self.options["aws:ec2:vpc", "Subnets"], self.subnets)

    def test_a_load_balancer_without_a_certificate_stays_inside(self):
        self.assertEqual(self.options["aws:ec2:vpc", "ELBScheme"], "internal")
        self.assertEqual(self.options["aws:elbv2:listener:443", "ListenerEnabled"], "false")
        self.assertNotIn(("aws:elbv2:listener:443", "SSLCertificateArns"), self.options)

    def test_instances_may_do_what_is_needed_and_no_more(self):
        allowed = self.statements("InstanceRole")
        self.assertEqual(allowed["s3:PutObject"], {"arn:aws:s3:::models/dunnage/*"})
        self.assertEqual(allowed["secretsmanager:GetSecretValue"], {self.database, self.tokens})
        self.assertEqual({action for action, resources in allowed.items() if "*" in resources}, {"ecr:GetAuthorizationToken"})


class WithCertificate(OnBeanstalk):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start(CertificateArn=cls.certificate)

    def test_all_of_it_is_made(self):
        self.assert_complete()
        self.assert_each_option_is_said_once()

    def test_a_load_balancer_with_a_certificate_speaks_https_alone(self):
        self.assertEqual(self.options["aws:ec2:vpc", "ELBScheme"], "public")
        self.assertEqual(self.options["aws:elbv2:listener:default", "ListenerEnabled"], "false")
        self.assertEqual(self.options["aws:elbv2:listener:443", "SSLCertificateArns"], self.certificate)


def refused(**parameters):
    """The rules of the template for ECS that refuse a stack with these parameters."""
    written = template(ECS)
    values = {name: str(parameter.get("Default", "")) for name, parameter in written["Parameters"].items()} | parameters

    def refuses(rule):
        concerned = decide(rule["RuleCondition"], values)
        return concerned and not all(decide(assertion["Assert"], values) for assertion in rule["Assertions"])

    return [name for name, rule in written["Rules"].items() if refuses(rule)]


def decide(condition, values):
    """Whether a condition of a template holds."""
    ((function, operands),) = condition.items()
    if function == "Fn::Not":
        return not decide(operands[0], values)
    if function == "Fn::Equals":
        left, right = (values[operand["Ref"]] if isinstance(operand, dict) else operand for operand in operands)
        return left == right
    raise ValueError(f"`{json.dumps(condition)}` is not understood")


if __name__ == "__main__":
    unittest.main()
