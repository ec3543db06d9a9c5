"""The launcher, beside what its own unit tests say: interpreters that cannot do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from pathlib import Path

from worker import Worker, command

NAMES = [f"python3.{minor}" for minor in range(6, 10)] + ["python2.7"]


def old_interpreters() -> list[str]:
    """Pythons that are too old, in the folders of PATH and of pyenv."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if "shims" not in folder]
    folders += Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    return [str(folder / name) for folder in folders for name in NAMES if (folder / name).exists()]


def run(
    *arguments: str, env: dict[str, str] | None = None, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, **(env or {})}
    words = [*command(), *arguments]
    return subprocess.run(words, env=full, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


class Launcher(unittest.TestCase):
    def test_an_old_python_is_refused_in_words_it_understands(self) -> None:
        interpreters = old_interpreters()
        if not interpreters:
            self.skipTest("there is no Python older than 3.10 here")
        for interpreter in interpreters:
            with self.subTest(interpreter):
                refused = run("--python", interpreter)
                self.assertEqual(refused.returncode, 1)
                self.assertRegex(refused.stderr, r"^dunnage-python: Python 3\.10 or later is needed, but this is .*\n$")

    def test_a_missing_interpreter_is_named_with_who_chose_it(self) -> None:
        refused = run("--python", "/nowhere/python")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("`/nowhere/python` (from --python) does not exist", refused.stderr)
        self.assertIn("(from $VIRTUAL_ENV)", run(env={"VIRTUAL_ENV": "/nowhere"}).stderr)

    def test_a_missing_module_is_named(self) -> None:
        self.assertIn("`/nowhere.so` is missing", run("--module", "/nowhere.so").stderr)

    def test_a_missing_module_of_a_free_threaded_python_is_named_with_what_makes_it(self) -> None:
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):
            print("skipped: this Python is not free-threaded")
            self.skipTest("this Python is not free-threaded")
        with tempfile.TemporaryDirectory() as folder:
            launcher = shutil.copy(command()[0], folder)
            Path(folder, "libdunnage_python.so").touch()
            refused = subprocess.run([launcher, "--python", sys.executable], capture_output=True, text=True, timeout=60)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"no module for {sys.executable} (3.", refused.stderr)
        self.assertIn(f"`{folder}/libdunnage_python.{sysconfig.get_config_var('SOABI')}.so`", refused.stderr)
        self.assertIn(f"`make free-threaded PYTHON={sys.executable}`", refused.stderr)

    def test_started_by_hand_it_says_who_should_start_it(self) -> None:
        refused = run("--python", sys.executable)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("descriptor 3 is no connection to a server", refused.stderr)

    def test_an_unknown_flag_and_a_missing_value_show_the_usage(self) -> None:
        for arguments in (["--pyton"], ["--python"]):
            refused = run(*arguments)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("Usage: dunnage-python", refused.stderr)

    def test_the_environments_own_packages_are_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
            (packages,) = Path(folder).glob("lib/python*/site-packages")
            (packages / "only_here.py").write_text("VALUE = 3")
            script = "import only_here, sys\ndef output(files): return [only_here.VALUE, sys.prefix != sys.base_prefix]"
            with Worker(script, python=folder).load() as worker:
                self.assertEqual(worker.output(), ("i64", [3, 1]))
                self.assertRegex(worker.hello["language"], r"^CPython 3\.\d+\.\d+(, free-threaded)?$")

    def test_modules_in_the_working_directory_do_not_get_into_the_way(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "importlib.py").write_text("raise AssertionError('imported')")
            self.assertIn("descriptor 3 is no connection", run("--python", sys.executable, cwd=folder).stderr)
