"""Where the deployment files are, and what is in them."""

import re
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
TESTS = "tests"


# libyaml's, where it is there, which is ten times as fast.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Template(Loader):
    """CloudFormation's short forms, read as the long ones."""


def _intrinsic(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Template.add_multi_constructor("!", _intrinsic)


def template(path):
    """A CloudFormation template."""
    return yaml.load(Path(path).read_text(), _Template)


def documents(path):
    """Every document of a YAML file."""
    return list(yaml.load_all(Path(path).read_text(), Loader))


def document(path):
    """The only document of a YAML file."""
    (only,) = documents(path)
    return only


def deployed(root=DEPLOY):
    """Every file that is deployed: all there are but the tests."""
    files = (path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != TESTS)
    return sorted(files)


def settings():
    """The variables that the server knows, with their defaults, as they are documented."""
    rows = re.findall(r"^\| `[^|]+` \| `(DUNNAGE_\w+)` \|[^|]*\| ?(`([^`]*)`)? *\|", reference(), re.MULTILINE)
    return {name: default for name, _, default in rows}


def flags():
    """The flags that the server knows, as they are documented."""
    return set(re.findall(r"^\| `(--[a-z0-9-]+)` \|", reference(), re.MULTILINE))


def reference():
    """The written reference of all settings, which a test of the command line holds up to date."""
    return (ROOT / "docs" / "configuration.md").read_text()


def seconds(text):
    """A time as the server writes it, such as `30s` or `5m`."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]
