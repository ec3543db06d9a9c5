"""Loading: the forms a script may have, and what is said of one that cannot be loaded."""

from __future__ import annotations

import importlib.util
import sys
import unittest

from worker import Refused, Worker

ALL = {"train": True, "input": True, "output": True, "output_batch": False, "self_test": False}


class Forms(unittest.TestCase):
    def vector(self, script: str, name: str = "model.py") -> list[float]:
        with Worker(script, name).load() as worker:
            return worker.output(files=[worker.file("a", b"abc"), worker.file("b", b"de")])[1]

    def test_a_class_may_leave_out_what_it_does_not_need(self) -> None:
        for constructor in ["def __init__(self, ctx): assert ctx.service", "def __init__(self): pass", "", "def __init__(self, a=1): assert a == 1"]:
            for arguments in ["self, files, ctx", "self, files", "self, files, limit=5", "self, *arguments"]:
                with self.subTest(f"{constructor} / {arguments}"):
                    script = f"class Model:\n    {constructor}\n    def output(" + arguments + "): return [1]"
                    self.assertEqual(self.vector(script), [1])

    def test_static_class_and_decorated_methods_are_methods(self) -> None:
        script = """
            import functools

            def plus_one(function):
                @functools.wraps(function)
                def wrapped(*arguments):
                    return [element + 1 for element in function(*arguments)]
                return wrapped

            class Model:
                @plus_one
                def output(self, files):
                    return [len(files)]
                @staticmethod
                def train(files, ctx):
                    return ctx.seed
                @classmethod
                def input(cls, files):
                    return cls.__name__
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.functions, ALL)
            self.assertEqual((worker.output(), worker.run("train"), worker.run("input")), (("i64", [1]), 42, "Model"))

    def test_plain_functions_are_found_and_setup_runs_once(self) -> None:
        script = """
            count = 0
            def setup(ctx):
                global count
                count += ctx.device == "cpu"
            def output(files): return [count, len(files)]
        """
        self.assertEqual(self.vector(script), [1, 2])

    def test_a_network_named_model_does_not_hide_the_functions(self) -> None:
        script = """
            class Model:
                def train(self, mode=True): raise AssertionError
            def output(files, ctx): return [5]
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.functions, {**ALL, "train": False, "input": False})
            self.assertEqual(worker.output(), ("i64", [5]))

    def test_the_first_wrappers_form_in_all_its_spellings(self) -> None:
        for script in [
            "class ML:\n def __init__(): ML.x = 1\n def handleOutputFile(contents): return [ML.x, len(contents)]",
            "class ML:\n def __init__(self): self.x = 1\n def handleOutputFile(self, contents): return (self.x, len(contents))",
            "class ML:\n x = 1\n @staticmethod\n def handleOutputFile(contents): return [1, len(contents)]",
            "class ML:\n x = 1\n @classmethod\n def handleOutputFile(cls, contents): return [cls.x, len(contents)]",
            "import array\nclass ML:\n def handleOutputFile(contents): return array.array('i', [1, len(contents)])",
        ]:
            with self.subTest(script):
                self.assertEqual(self.vector(script), [1, 3, 1, 2])
        self.assertEqual(self.vector("class ML:\n def handleOutputFile(contents): return len(contents) / 2"), [1.5, 1.0])

    def test_the_first_wrappers_jobs_return_what_their_handlers_returned(self) -> None:
        script = """
            class ML:
                def handleTrainFile(contents): return len(contents)
                def handleInputFile(contents): pass
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.functions, {**ALL, "output": False})
            files = [worker.file("a", b"abc"), worker.file("b", b"")]
            self.assertEqual((worker.run("train", files=files), worker.run("input", files=files)), ([3, 0], None))
            with self.assertRaises(Refused) as caught:
                worker.output()
        expected = "`model.py` has no `output`; add `def handleOutputFile(contents)` to its class `ML`"
        self.assertEqual(caught.exception.message, expected)

    def test_an_answer_of_the_first_wrappers_form_that_is_no_vector_is_refused(self) -> None:
        with self.assertRaises(Refused) as caught:
            self.vector("class ML:\n def handleOutputFile(contents): pass")
        self.assertRegex(caught.exception.message, "`handleOutputFile` returned None")

    def test_a_missing_function_is_named_with_what_to_add(self) -> None:
        for script, hint in [
            ("class Model:\n def output(self, files): ...", "`def train(self, files, ctx)` to its class `Model`"),
            ("def output(files): ...", "`def train(files, ctx)`"),
        ]:
            with self.subTest(hint), Worker(script).load() as worker, self.assertRaises(Refused) as caught:
                worker.run("train")
            self.assertEqual(caught.exception.code, "function_missing")
            self.assertEqual(caught.exception.message, f"`model.py` has no `train`; add {hint}")


class Modules(unittest.TestCase):
    def test_the_script_is_a_module_named_for_its_file(self) -> None:
        script = """
            import pathlib, pickle, sys

            if __name__ == "__main__":
                raise AssertionError("not the main program")

            class Point:
                pass

            def output(files):
                same = type(pickle.loads(pickle.dumps(Point()))) is Point
                folder = pathlib.Path(__file__).parent
                return [same, str(folder) == sys.path[0], sys.argv == [__file__], sys.modules[Point.__module__].Point is Point]

            def train(files):
                return pickle.dumps(Point(), 0).decode()
        """
        for name, module in [("model.py", "model"), ("my-model.py", "my-model"), ("model.v2.py", "model_v2"), ("model", "model")]:
            with self.subTest(name), Worker(script, name).load() as worker:
                self.assertEqual(worker.output(), ("i64", [1, 1, 1, 1]))
                self.assertIn(f"{module}\nPoint", worker.run("train"))

    def test_the_runtimes_own_package_wins_over_an_installed_one(self) -> None:
        script = """
            import dunnage
            def train(files): return [dunnage.__spec__.origin, sorted(dunnage.__all__)]
        """
        with Worker(script).load() as worker:
            (worker.path.parent / "dunnage.py").write_text("raise AssertionError")
            origin, names = worker.run("train")
        self.assertEqual(origin, "<dunnage>/__init__.py")
        self.assertEqual(names, ["Cancelled", "Context", "File", "Request", "Retry", "State", "StateError"])

    def test_our_frames_have_source_lines_where_a_script_prints_them(self) -> None:
        script = """
            import traceback
            def train(files, ctx):
                try:
                    ctx.state["a"] = object()
                except TypeError:
                    return traceback.format_exc()
        """
        with Worker(script).load() as worker:
            self.assertRegex(worker.run(), r'File "<dunnage>/_state.py", line \d+, in __setitem__\n    self\._host\.state_set')

    def test_modules_beside_the_script_can_be_imported(self) -> None:
        with Worker("import beside\ndef output(files): return [beside.VALUE]") as worker:
            (worker.path.parent / "beside.py").write_text("VALUE = 4")
            self.assertEqual(worker.load().output(), ("i64", [4]))


class Broken(unittest.TestCase):
    def failure(self, script: str, name: str = "model.py") -> Refused:
        worker = Worker(script, name)
        with self.assertRaises(Refused) as caught, worker:
            worker.load()
        self.assertEqual((caught.exception.code, worker.status), ("load_failed", 1), worker.stderr)
        return caught.exception

    def test_a_syntax_error_names_file_and_line(self) -> None:
        failure = self.failure("def output(files):\n    return [1]\n  x = = 1\n")
        self.assertRegex(failure.message, r"^(IndentationError|SyntaxError): .* \(model\.py, line 3\)$")

    def test_an_exception_shows_the_scripts_frames_only(self) -> None:
        failure = self.failure("import dunnage\ndef f(): raise ValueError('text')\nf()")
        self.assertEqual(failure.message, "ValueError: text")
        assert failure.traceback
        self.assertRegex(failure.traceback, r'^Traceback .*\n  File ".*/model\.py", line 3, in <module>')
        self.assertNotIn("dunnage>", failure.traceback)
        self.assertNotIn("importlib", failure.traceback)

    def test_an_exception_in_the_constructor_and_an_exit_fail_the_load(self) -> None:
        failure = self.failure("class Model:\n def __init__(self, ctx): raise OSError('no weights')\n def output(self, files): ...")
        self.assertEqual(failure.message, "OSError: no weights")
        self.assertIn("SystemExit: 0", self.failure("import sys; sys.exit(0)").message)
        self.assertIn("Retry", self.failure("import dunnage; raise dunnage.Retry('x')").message)

    def test_a_missing_module_names_the_interpreter(self) -> None:
        self.assertIn(f"(in {sys.executable})", self.failure("import no_such_module").message)

    def test_a_script_with_nothing_to_call_is_told_the_forms(self) -> None:
        message = self.failure("x = 1").message
        for form in ("class `Model`", "(self, files, ctx)", "(files, ctx)", "class `ML`", "handleOutputFile"):
            self.assertIn(form, message)

    def test_a_script_that_would_hide_a_module_is_refused(self) -> None:
        for name in ("json.py", "dunnage.py", "__main__.py", "random.py"):
            self.assertIn("rename it", self.failure("def output(files): ...", name).message)

    def test_a_file_that_is_not_there_or_is_no_text_fails(self) -> None:
        worker = Worker("")
        worker.path.unlink()
        with self.assertRaises(Refused) as caught, worker:
            worker.load()
        self.assertIn("FileNotFoundError", caught.exception.message)
        self.assertRegex(self.failure("x = '\0'").message, "Error: source code string cannot contain null bytes")


class SelfTests(unittest.TestCase):
    def failure(self, script: str) -> Refused:
        worker = Worker(script)
        with self.assertRaises(Refused) as caught, worker:
            worker.load()
        self.assertEqual((caught.exception.code, worker.status), ("self_test_failed", 1), worker.stderr)
        return caught.exception

    def returning(self, expression: str) -> str:
        return f"def self_test(): return {expression}\ndef output(files): return [1]"

    def test_it_runs_once_with_what_the_constructor_was_given(self) -> None:
        script = """
            class Model:
                tested = 0
                def self_test(self, ctx):
                    assert self.output([], ctx) == [0, 1]
                    self.tested += 1
                    ctx.log.info("tested")
                def output(self, files, ctx):
                    return [self.tested, ctx.version == 7 and ctx.state.get("absent") is None and ctx.artifact.is_dir()]
        """
        with Worker(script) as worker:
            worker.load(artifact=worker.folder.name)
            self.assertEqual(worker.functions, {**ALL, "train": False, "input": False, "self_test": True})
            self.assertEqual(worker.output(), ("i64", [1, 1]))
        self.assertEqual([line["message"] for line in worker.log], ["tested"])

    def test_a_plain_function_is_found_too_and_may_take_nothing(self) -> None:
        for declaration in ["self_test(ctx): assert ctx.device == 'cpu'", "self_test(): pass"]:
            script = f"tested = []\ndef {declaration}; tested.append(1)\ndef output(files): return tested"
            with self.subTest(declaration), Worker(script).load() as worker:
                self.assertEqual(worker.output(), ("i64", [1]))

    def test_what_it_raises_fails_the_load_with_the_scripts_frames(self) -> None:
        script = """
            class Model:
                def output(self, files, ctx): return [3]
                def self_test(self, ctx):
                    answer = self.output([], ctx)
                    assert answer == [4], f"the golden input scored {answer}"
        """
        failure = self.failure(script)
        self.assertEqual(failure.message, "`self_test` failed: AssertionError: the golden input scored [3]")
        assert failure.traceback
        self.assertRegex(failure.traceback, r'^Traceback .*\n  File ".*/model\.py", line 6, in self_test')
        self.assertNotIn("dunnage>", failure.traceback)

    def test_only_false_is_a_failure_among_what_it_may_return(self) -> None:
        self.assertEqual(self.failure(self.returning("False")).message, "`self_test` returned false")
        for expression in ["None", "True", "0", "[]", "'no'"]:
            with self.subTest(expression), Worker(self.returning(expression)).load() as worker:
                self.assertTrue(worker.functions["self_test"])

    @unittest.skipUnless(importlib.util.find_spec("numpy"), "numpy is not installed")
    def test_numpys_false_is_false(self) -> None:
        for expression, passes in [("(numpy.zeros(2) == 1).all()", False), ("numpy.bool_(True)", True), ("numpy.zeros(2)", True)]:
            script = "import numpy\n" + self.returning(expression)
            with self.subTest(expression):
                if passes:
                    with Worker(script).load():
                        pass
                else:
                    self.assertEqual(self.failure(script).message, "`self_test` returned false")

    def test_one_that_would_have_to_be_awaited_has_not_been_run(self) -> None:
        failure = self.failure("async def self_test(ctx): ...\ndef output(files): return [1]")
        self.assertIn("make it `def`, not `async def`", failure.message)

    def test_a_worker_that_only_runs_jobs_is_spared_it(self) -> None:
        with Worker("def self_test(): return False\ndef train(files): return 5").load(role="job") as worker:
            self.assertEqual(worker.run("train"), 5)
