"""The resources of CloudFormation that moto does not make by itself, made by the same calls that AWS makes for them.

So moto, and the AWS library in front of it, judge the properties. Importing this module adds them; `made` says what they were given.
"""

import json
import re

import boto3

# Before ours, which are to come last: the last model of a kind is the one that counts.
import moto.cloudformation.parsing  # noqa: F401
from moto.core.common_models import CloudFormationModel

PASSWORD = re.compile(r"\{\{resolve:secretsmanager:(arn:[^}]+?):SecretString:(\w+)\}\}")

# The properties of each resource that was made here, by its name in the template.
made = {}


def camel(value):
    """Properties as the API of ECS names them."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: camel(each) for name, each in value.items()}
    return value


def resolved(text):
    """A text with the secrets that it refers to."""
    secrets = boto3.client("secretsmanager")
    return PASSWORD.sub(lambda found: json.loads(secrets.get_secret_value(SecretId=found[1])["SecretString"])[found[2]], text)


def secret(name, properties):
    client = boto3.client("secretsmanager")
    text = resolved(properties["SecretString"]) if "SecretString" in properties else generated(client, properties["GenerateSecretString"])
    return client.create_secret(Name=name, Description=properties["Description"], SecretString=text)["ARN"]


def generated(client, wanted):
    password = client.get_random_password(PasswordLength=int(wanted["PasswordLength"]), ExcludePunctuation=wanted["ExcludePunctuation"])
    return json.dumps(json.loads(wanted["SecretStringTemplate"]) | {wanted["GenerateStringKey"]: password["RandomPassword"]})


def capacity_provider(name, properties):
    provider = camel(properties["AutoScalingGroupProvider"])
    boto3.client("ecs").create_capacity_provider(name=name, autoScalingGroupProvider=provider)
    return name


def associations(_, properties):
    boto3.client("ecs").put_cluster_capacity_providers(**camel(properties))
    return properties["Cluster"]


def task_definition(name, properties):
    # moto leaves out most of it when it makes one itself.
    answer = boto3.client("ecs").register_task_definition(**{"family": name} | camel(properties))
    return answer["taskDefinition"]["taskDefinitionArn"]


def service(name, properties):
    answer = boto3.client("ecs").create_service(**{"serviceName": name, "desiredCount": 1} | camel(properties))
    return answer["service"]["serviceArn"]


def scalable_target(_, properties):
    numbers = {name: int(properties[name]) for name in ("MinCapacity", "MaxCapacity")}
    boto3.client("application-autoscaling").register_scalable_target(**properties | numbers)
    return "|".join(properties[name] for name in ("ResourceId", "ScalableDimension", "ServiceNamespace"))


def scaling_policy(_, properties):
    resource, dimension, namespace = properties.pop("ScalingTargetId").split("|")
    tracking = properties["TargetTrackingScalingPolicyConfiguration"]
    tracking["TargetValue"] = float(tracking["TargetValue"])
    answer = boto3.client("application-autoscaling").put_scaling_policy(
        ResourceId=resource, ScalableDimension=dimension, ServiceNamespace=namespace, **properties
    )
    return answer["PolicyARN"]


def egress(_, properties):
    rule = {
        "IpProtocol": properties["IpProtocol"],
        "FromPort": int(properties["FromPort"]),
        "ToPort": int(properties["ToPort"]),
        "UserIdGroupPairs": [{"GroupId": properties["DestinationSecurityGroupId"], "Description": properties["Description"]}],
    }
    answer = boto3.client("ec2").authorize_security_group_egress(GroupId=properties["GroupId"], IpPermissions=[rule])
    return answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]


def application(name, _):
    boto3.client("elasticbeanstalk").create_application(ApplicationName=name)
    return name


def application_version(name, properties):
    bundle = properties["SourceBundle"]
    # It must be there.
    boto3.client("s3").head_object(Bucket=bundle["S3Bucket"], Key=bundle["S3Key"])
    return name


def environment(name, properties):
    for option in properties["OptionSettings"]:
        option["Value"] = str(option["Value"])
    boto3.client("elasticbeanstalk").create_environment(EnvironmentName=name, **properties)
    return name


MAKERS = {
    "AWS::SecretsManager::Secret": secret,
    "AWS::ECS::TaskDefinition": task_definition,
    "AWS::ECS::Service": service,
    "AWS::ECS::CapacityProvider": capacity_provider,
    "AWS::ECS::ClusterCapacityProviderAssociations": associations,
    "AWS::ApplicationAutoScaling::ScalableTarget": scalable_target,
    "AWS::ApplicationAutoScaling::ScalingPolicy": scaling_policy,
    "AWS::EC2::SecurityGroupEgress": egress,
    "AWS::ElasticBeanstalk::Application": application,
    "AWS::ElasticBeanstalk::ApplicationVersion": application_version,
    "AWS::ElasticBeanstalk::Environment": environment,
}


def _without_gaps(value):
    """Without what is `AWS::NoValue` in a list."""
    if isinstance(value, list):
        return [_without_gaps(each) for each in value if each is not None]
    return {name: _without_gaps(each) for name, each in value.items()} if isinstance(value, dict) else value


def _stand_in(kind, make):
    """A model of moto's; it finds those that derive from `CloudFormationModel` directly."""

    def create(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        properties = _without_gaps(cloudformation_json["Properties"])
        made[kwargs["LogicalId"]] = json.loads(json.dumps(properties))
        resource = cls()
        # Names have a random part of their own; the length of some is limited.
        resource.physical_resource_id = make(resource_name[-40:].strip("-"), properties)
        return resource

    def attribute(self, name):
        # The name of a service is what its ARN ends in.
        return self.physical_resource_id.split("/")[-1] if name == "Name" else f"{self.physical_resource_id}.{name}"

    return type(
        kind.replace("::", ""),
        (CloudFormationModel,),
        {
            "cloudformation_type": staticmethod(lambda: kind),
            "cloudformation_name_type": staticmethod(lambda: ""),
            "has_cfn_attr": classmethod(lambda cls, name: True),
            "get_cfn_attribute": attribute,
            "create_from_cloudformation_json": classmethod(create),
        },
    )


# Held here: moto finds them for as long as they exist.
MODELS = [_stand_in(kind, make) for kind, make in MAKERS.items()]
