"""What the images are: small, labelled, and quickly built upon."""

import json
import os
import time
import unittest
import zipfile
from io import BytesIO

from containers import Container, build, docker

BASE = "debian:bookworm-slim"
IMAGES = ("python", "lua", "full")
MB = 1_000_000
# Packages lie beside the requirements here, so that the test needs no index.
WITH_REQUIREMENTS = """\
FROM dunnage:python
COPY walks-1.0-py3-none-any.whl /wheels/
RUN --mount=source=requirements.txt,target=/tmp/requirements.txt pip install --requirement /tmp/requirements.txt
COPY model.py /model/
"""
USES_PACKAGE = b"import walks\n\ndef output(files, ctx):\n    return [walks.GAIT]\n"


class Images(unittest.TestCase):
    def test_every_image_says_what_it_is_and_how_it_is_run(self):
        for target in IMAGES:
            with self.subTest(target):
                config = json.loads(docker("inspect", "--format", "{{json .Config}}", f"dunnage:{target}"))
                labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
                self.assertEqual((labels["title"], labels["licenses"]), ("Dunnage", "MIT OR Apache-2.0"))
                self.assertEqual(docker("run", "--rm", f"dunnage:{target}", "--version"), f"dunnage {labels['version']}")
                self.assertRegex(labels["revision"], "^[0-9a-f]{40}$")
                self.assertEqual((config["Entrypoint"], config["Cmd"], config["User"]), (["dunnage"], ["serve"], "10001:10001"))
                self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "dunnage", "health"])
                self.assertEqual((set(config["ExposedPorts"]), set(config["Volumes"])), ({"8080/tcp"}, {"/data", "/tmp"}))

    @unittest.skipIf(os.environ["DUNNAGE_IMAGES_PROFILE"] != "release", "programs that are not optimized are far larger")
    def test_the_images_are_small(self):
        base = size(BASE)
        lua, python = size("dunnage:lua") - base, size("dunnage:python") - base - size_of_python()
        print(f"\nimages: Lua's is {lua / MB:.1f} MB more than its base, Python's {python / MB:.1f} MB more than base and Python")
        self.assertLessEqual(lua, 40 * MB)
        self.assertLessEqual(python, 45 * MB)


class UserImages(unittest.TestCase):
    def test_requirements_are_installed_by_one_line(self):
        with Container(self.build(USES_PACKAGE)) as container:
            self.assertEqual(container.output(), [3.5])

    def test_a_changed_script_is_built_in_seconds_and_installs_nothing_anew(self):
        first = layers(self.build(USES_PACKAGE))
        began = time.monotonic()
        second = layers(self.build(USES_PACKAGE.replace(b"walks.GAIT", b"walks.GAIT * 2")))
        took = time.monotonic() - began
        print(f"\nimages: a changed script took {took:.1f} s")
        self.assertEqual(first[:-1], second[:-1])
        self.assertNotEqual(first[-1], second[-1])
        self.assertLess(took, 10)

    def build(self, script):
        requirements = b"--no-index\n--find-links /wheels\nwalks==1.0\n"
        files = {"model_dot_py": script, "requirements_dot_txt": requirements, "walks-1_dot_0-py3-none-any_dot_whl": wheel()}
        return build("dunnage-test:requirements", WITH_REQUIREMENTS, **files)


def size(image):
    return int(docker("inspect", "--format", "{{.Size}}", image))


def size_of_python():
    """What Debian's Python takes up in the image for it, which is the layer of that package."""
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", "dunnage:python")
    [line] = [line for line in history.splitlines() if "install --yes --no-install-recommends python3" in line]
    return int(line.split()[0])


def layers(image):
    return json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", image))


def wheel():
    """A package `walks` with a number in it."""
    contents = BytesIO()
    with zipfile.ZipFile(contents, "w") as archive:
        about = "walks-1.0.dist-info"
        files = {
            "walks.py": "GAIT = 3.5\n",
            f"{about}/METADATA": "Metadata-Version: 2.1\nName: walks\nVersion: 1.0\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
        record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
        archive.writestr(zipfile.ZipInfo(f"{about}/RECORD"), record)
    return contents.getvalue()
