"""What the tools have to say about each deployment file.

`complaints` takes a folder like `deploy` and asks of every file what is meant for it, so that copies with planted mistakes go the
same way as the originals.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import kubernetes_validate
import kustomize
import yaml
from cfnlint.api import lint
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from documents import deployed, document, documents

SCHEMAS = Path(__file__).resolve().parent / "schemas"
# The oldest release of Kubernetes that knows all that is used, and the newest that the validator knows.
RELEASES = ("1.30", kubernetes_validate.latest_version().rsplit(".", 1)[0])
# Resources that the cluster knows from their operators, and not by itself.
OPERATORS = {
    ("monitoring.coreos.com/v1", "PodMonitor"): "pod-monitor.json",
    ("keda.sh/v1alpha1", "ScaledObject"): "scaled-object.json",
}
# What Elastic Beanstalk has made itself when it reads the resources of a bundle.
BEANSTALK = {"AWSEBAutoScalingGroup": {"MinSize": "1", "MaxSize": "4", "LaunchConfigurationName": "made-by-beanstalk"}}


def complaints(root):
    """Everything that is wrong with the files below `root`, each with its path; a file that nobody checks is wrong, too."""
    found = []
    for path in deployed(root):
        name = str(path.relative_to(root))
        found += [f"{name}: {complaint}" for complaint in of_file(path, name)]
    found += [f"kubernetes: {complaint}" for complaint in of_compositions(root / "kubernetes")]
    return found


def of_file(path, name):
    """What is wrong with one file, which `name` says what it is."""
    for belongs, check in CHECKS:
        if belongs(name):
            try:
                return check(path)
            except yaml.YAMLError as error:
                return [f"is no YAML: {error}"]
    return ["nothing checks it"]


def of_compositions(folder):
    """What is wrong with what kustomize makes of each folder that is deployed by itself."""
    found = []
    for made in [folder / "base", *sorted((folder / "overlays").iterdir())]:
        try:
            for manifest in kustomize.compose(made):
                found += [f"{made.name}: {complaint}" for complaint in of_manifest(manifest)]
        except kustomize.Broken as broken:
            found.append(f"{made.name}: {broken}")
    return found


def of_template(path):
    """What cfn-lint says of a CloudFormation template."""
    return [f"{match.rule.id} {match.message}" for match in lint(path.read_text())]


def of_manifests(path):
    """What the validator of Kubernetes says of each document of a file."""
    return [complaint for manifest in documents(path) for complaint in of_manifest(manifest)]


def of_manifest(manifest):
    """What the validator of Kubernetes says of a manifest, or that of its operator."""
    named = manifest.get("apiVersion"), manifest.get("kind")
    if named in OPERATORS:
        return _by_schema(manifest, OPERATORS[named])
    found = []
    for release in RELEASES:
        try:
            kubernetes_validate.validate(manifest, release, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{named} in {release}: {error}")
    return found


def of_extension(path):
    """What is wrong with one of the bundle's .ebextensions: its form, and its resources."""
    found = _check("--schemafile", str(SCHEMAS / "ebextensions.json"), str(path))
    resources = _settled(document(path).get("Resources", {}))
    if not found and resources:
        found += of_resources(resources)
    return found


def of_resources(resources):
    """What cfn-lint says of the resources that are added to those of Elastic Beanstalk."""
    for name, properties in BEANSTALK.items():
        if name in resources:
            resources[name]["Properties"] = properties | resources[name]["Properties"]
        else:
            resources[name] = {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": properties}
    text = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})
    return [f"{match.rule.id} {match.message}" for match in lint(text) if not _is_of_beanstalk(match)]


def _is_of_beanstalk(match):
    return "LaunchConfiguration" in match.message


def _settled(value):
    """With a value for each option of the environment that is asked for, as Elastic Beanstalk puts it there."""
    if isinstance(value, list):
        return [_settled(each) for each in value]
    if isinstance(value, dict):
        if set(value) == {"Fn::GetOptionSetting"}:
            return "5"
        return {name: _settled(each) for name, each in value.items()}
    return value


def of_compose(path):
    """What the schema of Compose says of a file."""
    return _check("--builtin-schema", "vendor.compose-spec", str(path))


def of_script(path):
    """Whether bash can read a script, and the platform run it."""
    read = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    found = [read.stderr.strip()] if read.returncode else []
    return found if os.access(path, os.X_OK) else [*found, "it cannot be run"]


def by_schema(name):
    """A check with one of the schemas beside this file."""
    return lambda path: _check("--schemafile", str(SCHEMAS / name), str(path))


def _by_schema(manifest, schema):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(manifest, file)
        file.flush()
        return _check("--schemafile", str(SCHEMAS / schema), file.name)


def _check(*arguments):
    ran = CliRunner().invoke(check_jsonschema, [*arguments, "--force-filetype", "yaml"])
    return [] if ran.exit_code == 0 else [ran.output.strip() or repr(ran.exception)]


def _named(*names):
    return lambda name: Path(name).name in names


def _below(folder, suffix):
    return lambda name: name.startswith(folder) and name.endswith(suffix)


def _patches(name):
    return Path(name).name in ("gpu.yaml", "device.yaml", "scaled.yaml") or name == "kubernetes/overlays/gpu/autoscaler.yaml"


# The first that a file belongs to checks it.
CHECKS = [
    (_named("kustomization.yaml"), by_schema("kustomization.json")),
    (_named("prometheus-adapter.yaml"), by_schema("prometheus-adapter.json")),
    (_patches, by_schema("json-patch.json")),
    (_below("kubernetes/", ".yaml"), of_manifests),
    (_below("ecs/", ".yaml"), of_template),
    (_named("environment.yaml"), of_template),
    (_named("docker-compose.yml"), of_compose),
    (_below("elastic-beanstalk/bundle/.ebextensions/", ".config"), of_extension),
    (_below("elastic-beanstalk/bundle/.platform/", ".sh"), of_script),
]
