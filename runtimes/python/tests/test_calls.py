"""Calls: contexts, state, results, failures, logs, threads and the end, through real workers."""

from __future__ import annotations

import os
import struct
import sys
import time
import unittest
from pathlib import Path
from typing import Any

from worker import OUTPUT, OUTPUTS, Refused, Worker, pack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dunnage._context import Context, for_requests


class Contexts(unittest.TestCase):
    def test_a_job_is_told_all_about_itself(self) -> None:
        script = """
            def train(files, ctx):
                file = files[0]
                with file.open() as opened:
                    assert opened.read() == file.read() == open(file, "rb").read() == file.path.read_bytes() == b"abc"
                return [ctx.job_id, ctx.attempt, ctx.seed, ctx.deadline, ctx.device, ctx.service, ctx.version, ctx.request_id,
                        str(ctx.artifact), file.uri, file.size, file.etag, ctx.params]
        """
        with Worker(script) as worker:
            worker.load(artifact="/some/where")
            result = worker.run(params={"a": [1, None, {"b": 2**64 - 1}], "c": -1.5}, files=[worker.file("a.csv", b"abc")])
        job = "00000000-0000-0000-0000-000000000001"
        expected = [job, 2, 42, 4e9, "cpu", "tests", 7, None, "/some/where", "s3://tests/a.csv", 3, "abc"]
        self.assertEqual(result, [*expected, {"a": [1, None, {"b": 2**64 - 1}], "c": -1.5}])

    def test_a_request_is_told_its_id_and_a_batch_the_ids_of_each(self) -> None:
        script = """
            def output(files, ctx):
                return [ctx.request_id == "r0", ctx.job_id is None, ctx.version is None, ctx.artifact is None]
        """
        batched = """
            def output(files, ctx):
                raise AssertionError("with output_batch, every request goes to it")

            def output_batch(requests, ctx):
                return [[request.request_id == f"r{index}", ctx.params == {}] for index, request in enumerate(requests)]
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.output(), ("i64", [1, 1, 1, 1]))
        with Worker(batched).load() as worker:
            self.assertEqual(worker.output(), ("i64", [1, 1]))
            self.assertEqual(worker.batch([{}, {}]), [("i64", [1, 1])] * 2)

    def test_a_request_is_told_all_about_itself_and_its_files(self) -> None:
        script = """
            import dunnage, os, pathlib

            def output(files, ctx):
                file = files[0]
                assert type(files) is list and type(file) is dunnage.File and type(ctx) is dunnage.Context
                assert (file.uri, file.size, file.etag) == ("s3://tests/a.csv", 3, "abc")
                assert isinstance(file.path, pathlib.Path) and str(file.path) == os.fspath(file)
                assert file.path == pathlib.Path(file) and file.path.read_bytes() == file.read() == b"abc"
                assert repr(file) == "<File s3://tests/a.csv (3 bytes)>"
                assert files[1].path.read_bytes() == b"de"
                told = (ctx.deadline, ctx.device, ctx.service, ctx.version, str(ctx.artifact), ctx.params)
                assert told == (4e9, "cpu", "tests", 7, "/some/where", {"a": [1, None]}), told
                assert (ctx.job_id, ctx.attempt, ctx.seed) == (None, None, 0)
                assert repr(ctx) == "<Context of tests, r0>"
                assert ctx.state is ctx.state and ctx.state["known"] == 5 and ctx.cancelled is False
                return [0.5]
        """
        with Worker(script) as worker:
            worker.state["known"] = {"json": 5}
            worker.load(artifact="/some/where")
            files = [worker.file("a.csv", b"abc"), worker.file("b.csv", b"de")]
            for _ in range(2):
                self.assertEqual(worker.output({"a": [1, None]}, files), ("f64", [0.5]))

    def test_the_context_of_a_request_has_whatever_one_made_by_hand_has(self) -> None:
        host: Any = object()
        common: Any = {"service": "tests", "device": "cpu", "version": 7, "artifact": "/some/where"}
        made = for_requests(**common)(host, 4e9, {"a": 1}, "r0")
        by_hand = Context(host=host, deadline=4e9, params={"a": 1}, request_id="r0", **common)
        for name in Context.__slots__:
            self.assertEqual(getattr(made, name), getattr(by_hand, name), name)

    def test_the_context_of_a_call_that_has_ended_raises(self) -> None:
        script = """
            kept = []

            def input(files, ctx):
                kept.append(ctx)

            def train(files, ctx):
                for use in (lambda: kept[0].state["a"], lambda: kept[0].progress(1.0), lambda: kept[0].new_artifact()):
                    try:
                        use()
                    except RuntimeError as error:
                        assert "this call has ended" in str(error), error
                    else:
                        raise AssertionError("it should have raised")
                return kept[0].cancelled
        """
        with Worker(script).load() as worker:
            worker.run("input")
            self.assertIs(worker.run("train"), True)

    def test_a_script_may_read_the_state_while_it_is_loaded(self) -> None:
        script = """
            def setup(ctx):
                global known
                known = ctx.state.get("known", 0)

            def output(files):
                return [known]
        """
        with Worker(script) as worker:
            worker.state["known"] = {"json": 5}
            self.assertEqual(worker.load().output(), ("i64", [5]))

    def test_other_threads_run_and_may_use_the_context_while_one_waits(self) -> None:
        script = """
            import threading

            def train(files, ctx):
                barrier = threading.Barrier(8)
                def work(number):
                    barrier.wait()
                    for _ in range(20):
                        ctx.state.increment("n")
                        ctx.state[f"k{number}"] = number
                        assert ctx.state[f"k{number}"] == number
                threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                return ctx.state["n"]
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.run(), 160)

    def test_a_process_forked_while_the_script_is_loaded_ends_where_it_comes_back(self) -> None:
        script = """
            import os

            child = os.fork()

            def train(files, ctx):
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.run("train"), 1)

    def test_a_process_that_the_script_forked_cannot_speak_for_the_worker(self) -> None:
        script = """
            import logging, os

            def train(files, ctx):
                child = os.fork()
                if child == 0:
                    logging.warning("from the child")
                    try:
                        ctx.state["a"] = 1
                    except RuntimeError:
                        os._exit(7)
                    os._exit(0)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

            def input(files, ctx):
                child = os.fork()
                if child:
                    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.run("train"), 7)
            self.assertEqual(worker.run("input"), 1)
            self.assertEqual((worker.log, worker.state), ([], {}))
        self.assertIn("from the child", worker.stderr)


class Results(unittest.TestCase):
    SCRIPT = """
        import array, collections, enum, pathlib

        class Colour(enum.IntEnum):
            RED = 1

        class Awkward:
            def tolist(self):
                return self

        async def waited():
            return 1

        def train(files, ctx):
            itself = []
            itself.append(itself)
            names = dict(globals(), itself=itself)
            if "numpy" in ctx.params["value"]:
                names["numpy"] = __import__("numpy")
            return eval(ctx.params["value"], names)
    """
    ACCEPTED = [
        ("None", None),
        ("{'a': [1, 2.5, True, None, 'ä']}", {"a": [1, 2.5, True, None, "ä"]}),
        ("(1, (2,))", [1, [2]]),
        ("[2 ** 64 - 1, -2 ** 63]", [2**64 - 1, -(2**63)]),
        ("Colour.RED", 1),
        ("collections.OrderedDict(a=1)", {"a": 1}),
        ("array.array('d', [1, 2])", [1.0, 2.0]),
    ]
    NUMPY = [
        ("{'loss': numpy.float32(0.5), 'n': numpy.int64(3), 'ok': numpy.bool_(True)}", {"loss": 0.5, "n": 3, "ok": True}),
        ("numpy.ones((2, 1))", [[1.0], [1.0]]),
    ]
    REFUSED = [
        ("[1, {2}]", r"the result of `train`\[1\] is a set, which JSON cannot say"),
        ("{'path': pathlib.Path('a')}", r"\['path'\] is a Posix"),
        ("b'ab'", "is a bytes"),
        ("{1: 2}", "has the key 0x1, a int; the keys of a JSON object are strings"),
        ("{'loss': float('nan')}", r"\['loss'\] is nan; JSON has no such number"),
        ("[float('-inf')]", "is -inf"),
        ("2 ** 64", "0x10000000000000000, which needs more than 64 bits"),
        ("-2 ** 63 - 1", "needs more than 64 bits"),
        ("itself", "nested more than 100 deep"),
        ("Awkward()", "nested more than 100 deep"),
        ("waited()", "`train` returned a coroutine; .*not `async def`"),
        ("(each for each in [1])", "is a generator"),
        ("'\\ud800'", "lone surrogates"),
        ("'x' * (5 << 20)", "has 5242882 bytes as JSON; at most 4194304"),
    ]

    def test_what_json_can_say_is_returned_as_it_is(self) -> None:
        with Worker(self.SCRIPT).load() as worker:
            self.check_accepted(worker, self.ACCEPTED)
            try:
                import numpy  # noqa: F401
            except ImportError:
                self.skipTest("numpy is not installed")
            self.check_accepted(worker, self.NUMPY)

    def test_what_json_cannot_say_is_refused_and_named(self) -> None:
        with Worker(self.SCRIPT).load() as worker:
            for value, message in self.REFUSED:
                with self.subTest(value):
                    with self.assertRaises(Refused) as caught:
                        worker.run(params={"value": value})
                    self.assertEqual(caught.exception.code, "bad_result")
                    self.assertRegex(caught.exception.message, message)

    def check_accepted(self, worker: Worker, cases: list[tuple[str, object]]) -> None:
        for value, expected in cases:
            with self.subTest(value):
                self.assertEqual(worker.run(params={"value": value}), expected)


class Failures(unittest.TestCase):
    def failure(self, body: str, kind: str = "train") -> Refused:
        """How a function with this body fails; the worker must go on after it."""
        script = f"import dunnage, sys\nfailing = True\ndef {kind}(files, ctx):\n    if not failing: return [1]\n    {body}\n"
        script += "def output_batch(requests, ctx):\n    return [[1] for each in requests]\n" if kind != "output" else ""
        with Worker(script).load() as worker:
            with self.assertRaises(Refused) as caught:
                worker.output() if kind == "output" else worker.run(kind)
            if kind != "output":
                self.assertEqual(worker.output(), ("i64", [1]))
        self.assertEqual(worker.status, 0)
        return caught.exception

    def test_an_exception_tells_its_type_text_and_the_scripts_frames_only(self) -> None:
        failure = self.failure("raise ValueError('text')")
        self.assertEqual((failure.code, failure.message), ("script_error", "ValueError: text"))
        assert failure.traceback
        self.assertRegex(failure.traceback, r'model\.py", line 5, in train\n    raise ValueError')
        self.assertNotIn("dunnage>", failure.traceback)

    def test_chained_causes_are_kept_without_our_frames(self) -> None:
        failure = self.failure("""
    try:
        ctx.state[""] = 1
    except dunnage.StateError as error:
        assert error.code == "key_invalid", error.code
        raise OSError("above") from error""")
        self.assertEqual(failure.message, "OSError: above")
        assert failure.traceback
        self.assertIn("StateError: a key has 1 to 512 bytes", failure.traceback)
        self.assertIn("direct cause", failure.traceback)
        self.assertNotIn("dunnage>", failure.traceback)

    def test_retry_and_cancelled_have_their_own_codes(self) -> None:
        failure = self.failure("raise dunnage.Retry('later', after=2.5)")
        self.assertEqual((failure.code, failure.message, failure.retry_after), ("script_retry", "later", 2.5))
        self.assertIsNone(self.failure("raise dunnage.Retry()").retry_after)
        self.assertEqual(self.failure("raise dunnage.Cancelled").code, "script_cancelled")
        self.assertIn("ValueError", self.failure("raise dunnage.Retry('x', after=-1)").message)

    def test_a_script_cannot_end_its_worker(self) -> None:
        self.assertEqual(self.failure("sys.exit(0)").message, "SystemExit: 0; a script may not end its worker")
        self.assertEqual(self.failure("raise KeyboardInterrupt", "output").code, "script_error")
        self.assertIn("GeneratorExit", self.failure("raise GeneratorExit").message)

    def test_odd_exceptions_are_told_all_the_same(self) -> None:
        self.assertIn("RecursionError", self.failure("f = lambda: f(); f()").message)
        self.assertEqual(self.failure("raise ValueError('a\\ud800b')").code, "script_error")
        odd = self.failure("class Odd(Exception):\n        def __str__(self): raise SystemExit\n    raise Odd")
        self.assertEqual((odd.code, odd.message), ("script_error", "Odd: <its text cannot be had: SystemExit>"))
        long = self.failure("raise ValueError('x' * 10_000_000)")
        self.assertLess(len(long.message), 3000)
        assert long.traceback
        self.assertLess(len(long.traceback), 20_000)

    def test_groups_of_exceptions_keep_their_members(self) -> None:
        import sys

        if sys.version_info < (3, 11):
            self.skipTest("groups of exceptions came with Python 3.11")
        failure = self.failure("raise ExceptionGroup('several', [ValueError('one'), TypeError('two')])")
        assert failure.traceback
        self.assertIn("TypeError: two", failure.traceback)

    def test_a_batch_with_a_wrong_number_of_answers_fails_whole(self) -> None:
        for returned, message in [("[[1]]", "returned 1 answers to 2 requests"), ("None", "returned a NoneType"), ("7", "an? int")]:
            with self.subTest(returned), Worker(f"def output_batch(requests, ctx): return {returned}").load() as worker:
                for answer in worker.batch([{}, {}]):
                    self.assertEqual(answer.code, "bad_output")
                    self.assertRegex(answer.message, message)

    def test_an_answer_in_a_batch_that_is_no_vector_fails_alone(self) -> None:
        with Worker("def output_batch(requests): return [[1], 'text']").load() as worker:
            good, bad = worker.batch([{}, {}])
        self.assertEqual(good, ("i64", [1]))
        self.assertEqual(bad.message, "`output_batch`, for request 1, returned a str; return a flat list of numbers, or a 1-D array")


class Logs(unittest.TestCase):
    def test_lines_of_logging_are_sent_with_their_level_from_info_on(self) -> None:
        script = """
            def train(files, ctx):
                import logging
                logging.debug("hidden")
                logging.getLogger("a.library").info("number %d", 5)
                ctx.log.error("lone \\ud800")
                ctx.log.log(35, "between")
                try:
                    1 / 0
                except ZeroDivisionError:
                    ctx.log.exception("caught")
                logging.getLogger().setLevel(logging.DEBUG)
                logging.debug("shown")
        """
        with Worker(script).load() as worker:
            worker.run()
        lines = [(line["level"], line["message"]) for line in worker.log]
        self.assertEqual(lines[:3], [("info", "number 5"), ("error", "lone \ufffd\ufffd\ufffd"), ("warning", "between")])
        self.assertRegex(lines[3][1], r"^caught\nTraceback (.|\n)*ZeroDivisionError")
        self.assertEqual(lines[4:], [("debug", "shown")])
        self.assertEqual({line["call"] for line in worker.log}, {1})

    def test_a_line_logged_while_loading_belongs_to_no_call(self) -> None:
        with Worker("import logging\nlogging.info('loading')\ndef output(files): return []").load() as worker:
            self.assertEqual(worker.log, [{"call": None, "level": "info", "message": "loading"}])

    def test_progress_is_sent_and_checked(self) -> None:
        script = """
            def train(files, ctx):
                ctx.progress(0.25, "a quarter", loss=0.5, epoch=1)
                ctx.progress(message="text")
                try:
                    ctx.progress(float("nan"))
                except ValueError as error:
                    return str(error)
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.run(), "the fraction is nan; JSON has no such number")
        first, second = worker.progress
        self.assertEqual(first, {"call": 1, "fraction": 0.25, "message": "a quarter", "metrics": {"loss": 0.5, "epoch": 1}})
        self.assertEqual((second["fraction"], second["message"]), (None, "text"))

    def test_printed_lines_appear_whatever_the_locale_and_a_broken_stdout_harms_nobody(self) -> None:
        script = """
            import sys

            def output(files):
                print("grüße \\ud800")
                sys.stderr.write("no line end")
                return [1]

            def input(files):
                class Broken:
                    def flush(self): raise SystemExit(3)
                sys.stdout = Broken()
                sys.stderr = None
        """
        with Worker(script, env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}).load() as worker:
            worker.output()
            worker.run("input")
        self.assertEqual(worker.status, 0)
        self.assertEqual((worker.stdout, worker.stderr), ("grüße \\ud800\n", "no line end"))


    def test_what_calls_sent_ahead_have_printed_is_there_with_the_last_answer(self) -> None:
        with Worker("def output(files): print('.', end=''); return [1]").load() as worker:
            request = {"request_id": "r", "files": [], "params": {}}
            assert worker.process.stdout
            os.set_blocking(worker.process.stdout.fileno(), False)
            for _ in range(3):
                header = pack({"call": 1, "deadline": 4e9, "requests": [request]})
                worker.socket.sendall((struct.pack("<IIHH", len(header), 0, OUTPUT, 0) + header) * 20)
                for _ in range(20):
                    self.assertEqual(worker.receive()[0], OUTPUTS)
                self.assertEqual(os.read(worker.process.stdout.fileno(), 1000), b"." * 20)


class End(unittest.TestCase):
    def exit(self, script: str) -> tuple[Worker, float]:
        worker = Worker(script).load()
        worker.output()
        begin = time.monotonic()
        worker.close()
        return worker, time.monotonic() - begin

    def test_exit_hooks_run(self) -> None:
        worker, _ = self.exit("import atexit\natexit.register(print, 'goodbye', end='')\ndef output(files): return []")
        self.assertEqual((worker.status, worker.stdout), (0, "goodbye"))

    def test_a_thread_left_behind_is_not_waited_for(self) -> None:
        script = """
            import threading
            threading.Thread(target=threading.Event().wait).start()
            def output(files): return []
        """
        worker, _ = self.exit(script)
        self.assertEqual(worker.status, 0)

    def test_an_exit_hook_that_hangs_is_cut_off_and_named(self) -> None:
        script = """
            import atexit, threading
            @atexit.register
            def hanging_hook():
                threading.Event().wait()
            def output(files): return []
        """
        worker, seconds = self.exit(script)
        self.assertEqual(worker.status, 1)
        self.assertIn("hanging_hook", worker.stderr)
        self.assertGreater(seconds, 1.5)

    def test_a_job_that_is_cancelled_can_see_it(self) -> None:
        script = """
            import dunnage, time

            def train(files, ctx):
                ctx.progress(0)
                while not ctx.cancelled:
                    time.sleep(0.001)
                raise dunnage.Cancelled("stopped at once")
        """
        with Worker(script).load() as worker:
            worker.begin()
            worker.receive()
            worker.cancel()
            with self.assertRaises(Refused) as caught:
                worker.finish()
        self.assertEqual((caught.exception.code, caught.exception.message), ("script_cancelled", "stopped at once"))
