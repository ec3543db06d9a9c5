"""What kustomize makes of our folders: the part of it that they use, so that it can be checked where there is no kustomize.

`test_composition.py` compares it with `kubectl kustomize` where there is one.
"""

import copy
from pathlib import Path

import jsonpatch
import jsonpointer
from documents import document, documents

API_VERSIONS = {
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}
FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}


class Broken(Exception):
    """A folder that cannot be composed, and why."""


def compose(folder):
    """The manifests that a kustomization makes."""
    return _apply(Path(folder), "Kustomization", [])


def key(manifest):
    """By what a manifest is told from all others."""
    return manifest["kind"], manifest["metadata"]["name"]


def _apply(folder, kind, manifests):
    custom = _kustomization(folder, kind)
    manifests = copy.deepcopy(manifests)
    for name in custom.get("resources", []):
        manifests += _resource(folder / name)
    _refuse_twins(folder, manifests)
    for name in custom.get("components", []):
        manifests = _apply(folder / name, "Component", manifests)
    for patch in custom.get("patches", []):
        _patch(folder, patch, manifests)
    for image in custom.get("images", []):
        _rename_image(folder, image, manifests)
    for manifest in manifests if "namespace" in custom else []:
        manifest["metadata"]["namespace"] = custom["namespace"]
    return manifests


def _kustomization(folder, kind):
    path = folder / "kustomization.yaml"
    if not path.is_file():
        raise Broken(f"`{path}` does not exist")
    custom = document(path)
    if (custom.get("kind"), custom.get("apiVersion")) != (kind, API_VERSIONS[kind]):
        raise Broken(f"`{path}` is no {kind} of `{API_VERSIONS[kind]}`")
    unknown = set(custom) - FIELDS
    if unknown:
        raise Broken(f"`{path}` has unknown fields: {sorted(unknown)}")
    return custom


def _resource(path):
    if path.is_dir():
        return compose(path)
    if not path.is_file():
        raise Broken(f"`{path}` does not exist")
    return documents(path)


def _refuse_twins(folder, manifests):
    keys = [key(manifest) for manifest in manifests]
    twins = {each for each in keys if keys.count(each) > 1}
    if twins:
        raise Broken(f"`{folder}` has several of {sorted(twins)}")


def _patch(folder, patch, manifests):
    path = folder / patch["path"]
    if not path.is_file():
        raise Broken(f"`{path}` does not exist")
    wanted = patch["target"]["kind"], patch["target"]["name"]
    places = [place for place, manifest in enumerate(manifests) if key(manifest) == wanted]
    if not places:
        raise Broken(f"`{path}` is for {wanted}, which `{folder}` does not have")
    for place in places:
        try:
            manifests[place] = jsonpatch.apply_patch(manifests[place], document(path))
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            raise Broken(f"`{path}` does not fit {wanted}: {error}") from error


def _rename_image(folder, image, manifests):
    containers = [
        container
        for manifest in manifests
        for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        if container["image"].split(":")[0] == image["name"]
    ]
    if not containers:
        raise Broken(f"`{folder}` renames the image `{image['name']}`, which no container has")
    for container in containers:
        container["image"] = f"{image['newName']}:{image['newTag']}"
