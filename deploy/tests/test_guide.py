"""What docs/deploy.md tells people to do can be done, as far as that shows without an account and a cluster."""

import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import botocore.session
import documents
import kustomize
import validators
from documents import DEPLOY, ROOT, document, template

PAGE = ROOT / "docs" / "deploy.md"
TEXT = PAGE.read_text()
# What the AWS command line adds to the operations of AWS, with the options that are used of it.
OF_THE_COMMAND_LINE = {
    ("cloudformation", "deploy"): {"stack-name", "template-file", "capabilities", "parameter-overrides"},
    ("ecr", "get-login-password"): set(),
    ("s3", "cp"): set(),
}
COMMON_OPTIONS = {"query"}
KUBECTL = {
    ("create", "namespace"): set(),
    ("create", "secret"): {"namespace", "from-file", "from-literal"},
    ("apply",): {"kustomize"},
    ("rollout", "status"): {"namespace"},
}
DOCKER = {"build": {"tag"}, "run": {"publish", "env", "volume"}, "login": {"username", "password-stdin"}, "tag": set(), "push": set()}


def commands():
    """Each command of the page, as the words it consists of."""
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r" \| | && ", re.sub(r'^\w+="\$\((.*)\)"$', r"\1", line)):
                words = shlex.split(command, comments=True)
                if words:
                    yield words


def options(words):
    """The names of the options among words."""
    return {word[2:].split("=")[0] for word in words if word.startswith("--")}


def operands(words):
    """The words of a `kubectl` that are no options, without the namespace in front of them."""
    rest = words[3:] if words[1] == "--namespace" else words[1:]
    return [word for word in rest if not word.startswith("--")]


def examples():
    """The examples in YAML, with the files that they are: the last that was named before each."""
    before, *blocks = re.split(r"^```yaml\n", TEXT, flags=re.MULTILINE)
    for block in blocks:
        text, after = block.split("```\n", 1)
        yield re.findall(r"`(gait/[\w.-]+)`", before)[-1], text
        before = after


class Commands(unittest.TestCase):
    def of(self, program):
        found = [words for words in commands() if words[0] == program]
        self.assertTrue(found, program)
        return found

    def test_each_is_of_a_program_that_is_checked(self):
        checked = {"aws", "kubectl", "docker", "dunnage", "make", "zip"}
        self.assertLessEqual({words[0] for words in commands()}, checked | {"export", "umask", "cd", "echo", "printf"})

    def test_operations_of_aws_exist_with_their_options(self):
        session = botocore.session.get_session()
        for _, service, operation, *rest in self.of("aws"):
            if (service, operation) in OF_THE_COMMAND_LINE:
                known = OF_THE_COMMAND_LINE[service, operation]
            else:
                known = self.inputs(session, service, operation)
            self.assertLessEqual(options(rest), known | COMMON_OPTIONS, (service, operation))

    def inputs(self, session, service, operation):
        """The options of an operation, which the command line writes with dashes."""
        model = session.get_service_model(service)
        names = {dashed(name): name for name in model.operation_names}
        self.assertIn(operation, names, service)
        shape = model.operation_model(names[operation]).input_shape
        return {dashed(member) for member in shape.members} if shape else set()

    def test_templates_have_the_parameters_they_are_given_and_get_all_they_need(self):
        deployed = [words for words in self.of("aws") if words[1:3] == ["cloudformation", "deploy"]]
        self.assertEqual(len(deployed), 2)
        for words in deployed:
            path = ROOT / words[words.index("--template-file") + 1]
            parameters = template(path)["Parameters"]
            given = dict(word.split("=", 1) for word in words[words.index("--parameter-overrides") + 1:])
            self.assertLessEqual(set(given), set(parameters), path)
            self.assertLessEqual({name for name, parameter in parameters.items() if "Default" not in parameter}, set(given), path)
            for name, value in given.items():
                self.assertRegex(value, f"^(?:{parameters[name].get('AllowedPattern', '.*')})$")
            # Longer ones would have to be put into a bucket first.
            self.assertLess(path.stat().st_size, 51_200)

    def test_commands_of_kubectl_and_docker_are_those_that_were_looked_up(self):
        for words in self.of("kubectl"):
            verb = tuple(operands(words)[:2])
            known = KUBECTL[verb] if verb in KUBECTL else KUBECTL[verb[:1]]
            self.assertLessEqual(options(words), known, words)
        for words in self.of("docker"):
            self.assertLessEqual(options(words), DOCKER[words[1]], words)

    def test_targets_of_make_exist(self):
        targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        self.assertLessEqual({words[1] for words in self.of("make")}, targets)

    def test_commands_of_dunnage_exist(self):
        enum = (ROOT / "crates" / "cli" / "src" / "cli.rs").read_text()
        for _, command, *_ in self.of("dunnage"):
            self.assertRegex(enum, rf"\b{command.title()}\b", command)

    def test_the_bundle_has_all_that_is_zipped(self):
        (words,) = self.of("zip")
        bundle = DEPLOY / "elastic-beanstalk" / "bundle"
        self.assertEqual(set(words[3:]), {path.name for path in bundle.iterdir()})


class Page(unittest.TestCase):
    def test_variables_and_flags_are_the_servers(self):
        known = set(documents.settings())
        self.assertLessEqual(set(re.findall(r"DUNNAGE_[A-Z_]+", TEXT)), known)
        self.assertLessEqual(set(re.findall(r"`(--[a-z-]+)`", TEXT)), documents.flags())

    def test_parameters_that_are_named_exist(self):
        named = set(re.findall(r"`(?:[A-Za-z0-9=./-]+ )*([A-Z][a-z][A-Za-z]+)=[^`]*`", TEXT)) | {"BacklogPerTask", "BacklogPerInstance"}
        named |= set(re.findall(r"\b([A-Z][a-z][A-Za-z]+)=(?:EC2|1|internet-facing|g5|…)", TEXT))
        paths = (DEPLOY / "ecs" / "service.yaml", DEPLOY / "elastic-beanstalk" / "environment.yaml")
        known = {name for path in paths for name in template(path)["Parameters"]}
        self.assertGreater(len(named), 8)
        self.assertLessEqual(named, known)

    def test_links_lead_somewhere(self):
        links = {link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith(("http", "#"))}
        self.assertEqual([link for link in links if not (PAGE.parent / link).exists()], [])
        anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
        self.assertLessEqual({link for link in re.findall(r"\]\(#([^)]+)\)", TEXT)}, anchors)

    def test_the_table_of_endings_has_the_numbers_of_the_files(self):
        (server,) = template(DEPLOY / "ecs" / "service.yaml")["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
        compose = document(DEPLOY / "elastic-beanstalk" / "bundle" / "docker-compose.yml")["services"]["server"]
        pod = document(DEPLOY / "kubernetes" / "base" / "deployment.yaml")["spec"]["template"]["spec"]
        self.assertIn(f"| {server['StopTimeout']} s (`StopTimeout`", TEXT)
        self.assertIn(f"| {compose['stop_grace_period'][:-1]} s (`stop_grace_period`)", TEXT)
        self.assertIn(f"| {pod['terminationGracePeriodSeconds']} s (`terminationGracePeriodSeconds`)", TEXT)
        self.assertIn(f"| {pod['containers'][0]['lifecycle']['preStop']['sleep']['seconds']} s before (`preStop`)", TEXT)
        self.assertEqual(TEXT.count("| 40 s before ("), 2)
        self.assertIn("Kubernetes 1.30 and 1.37", TEXT)
        self.assertEqual(validators.RELEASES, ("1.30", "1.37"))

    def test_the_example_for_kubernetes_is_made_of_what_there_is(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(DEPLOY, Path(folder) / "deploy", ignore=shutil.ignore_patterns("tests"))
            for name, text in examples():
                (Path(folder) / name).parent.mkdir(exist_ok=True)
                (Path(folder) / name).write_text(text)
            own = Path(folder) / "gait"
            made = {kustomize.key(manifest): manifest for manifest in kustomize.compose(own)}
            self.assertEqual([complaint for manifest in made.values() for complaint in validators.of_manifest(manifest_of_any(manifest))], [])
            self.assertEqual(made["ConfigMap", "model"]["data"]["DUNNAGE_NAME"], "gait")
            (server,) = made["Deployment", "model"]["spec"]["template"]["spec"]["containers"]
            self.assertEqual(server["image"], "registry.example/gait:1")
            if shutil.which("kubectl"):
                ran = subprocess.run(["kubectl", "kustomize", own], capture_output=True, text=True, check=True)
                theirs = {kustomize.key(manifest): manifest for manifest in documents.yaml.safe_load_all(ran.stdout)}
                self.assertEqual(made, theirs)

    def test_the_secrets_that_are_made_are_those_that_are_used(self):
        (making,) = [words for words in commands() if words[0] == "kubectl" and words[-3] == "model"]
        made = {word.split("=", 1)[1] for word in making if word.startswith("--from-file=")}
        manifests = {kustomize.key(manifest): manifest for manifest in kustomize.compose(DEPLOY / "kubernetes" / "overlays" / "hpa")}
        pod = manifests["Deployment", "model"]["spec"]["template"]["spec"]
        (server,) = pod["containers"]
        used = {variable["valueFrom"]["secretKeyRef"]["key"] for variable in server["env"]}
        used |= {item["key"] for volume in pod["volumes"] if "secret" in volume for item in volume["secret"]["items"]}
        self.assertEqual(made, used)


def dashed(name):
    """A name of AWS as the command line writes it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def manifest_of_any(manifest):
    """A manifest without its namespace, which the schemas of operators leave out."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "namespace"}
    return manifest | {"metadata": metadata}


if __name__ == "__main__":
    unittest.main()
