"""Scripts with threads: values that are changed while they are returned, and what an interpreter without a global lock makes of threads.

All but the last must hold on every interpreter; those with a global lock find most of it easier.
"""

from __future__ import annotations

import importlib.util
import sysconfig
import textwrap
import unittest
from typing import Any

from worker import Refused, Worker

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
CALLS = 300

CHANGING = """
    import contextlib, fractions, sys, threading

    sys.setswitchinterval(1e-4)
    values = {values}
    going_on = True

    def change(number):
        {change}

    def go_on():
        number = 0
        while going_on:
            number += 1
            change(number)

    threads = [threading.Thread(target=go_on) for _ in range(3)]

    def setup(ctx):
        for thread in threads:
            thread.start()

    def output(files):
        return values

    def output_batch(requests, ctx):
        return values

    def train(files, ctx):
        ctx.state["values"] = values
        ctx.progress(0.5, values=values)
        return values

    def input(files):
        global going_on
        alive = [thread.is_alive() for thread in threads]
        going_on = False
        for thread in threads:
            thread.join()
        return alive
"""

LISTS = {
    "floats that come and go": """
        values[:] = [1 + 1 / number] * (number % 900)
        values.append(1.5)
        del values[::2]
        if number % 7 == 0:
            values.clear()
    """,
    "floats that are replaced one by one": """
        if len(values) < 100:
            values.append(1.5)
        values[number % len(values)] = 1 + 1 / number
    """,
    "floats that are sorted": """
        if len(values) < 100:
            values.append(1 + 1 / number)
        with contextlib.suppress(ValueError):  # some other thread has changed it
            values.sort(key=lambda value: -value)
    """,
    "integers and floats": "values[:] = [1 + number % 2, 1 + 1 / number] * (number % 50)",
    "integers too large for their type": "values[:] = [1 + number % 2, 2 ** 40] * (number % 50)",
    "numbers that are no floats": "values[:] = [fractions.Fraction(number + 1, number), 1.5] * (number % 50)",
}


def changing(change: str, values: str = "[]", batch: bool = False) -> Worker:
    indented = textwrap.indent(textwrap.dedent(change).strip(), " " * 8).strip()
    script = CHANGING.format(values=values, change=indented)
    return Worker(script if batch else script.replace("output_batch", "not_served")).load()


class ValuesThatChange(unittest.TestCase):
    """Whatever threads do to a value that is being read, the worker lives, and says what it saw or why it cannot."""

    def end(self, worker: Worker) -> None:
        self.assertEqual(worker.run("input"), [True] * 3, "the threads have changed the value to the end")
        self.assertEqual(worker.close(), 0, worker.stderr)

    def test_a_list_of_floats_is_read_at_one_moment(self) -> None:
        with changing("values[:] = [1 + 1 / number] * 20_000", "[1.5] * 20_000") as worker:
            for dtype, elements in worker.batch([{}] * 100):
                self.assertEqual((dtype, len(elements), len(set(elements))), ("f64", 20_000, 1))
            self.end(worker)

    def test_a_list_has_nothing_in_it_that_was_never_there(self) -> None:
        for name, change in LISTS.items():
            with self.subTest(name), changing(change) as worker:
                for dtype, elements in worker.batch([{}] * CALLS):
                    self.assertIn(dtype, ("f64", "i64"))
                    self.assertEqual([number for number in elements if not 1 <= number <= 2 and number != 2**40], [])
                self.end(worker)

    def test_an_array_is_read_as_it_is_just_then(self) -> None:
        if not importlib.util.find_spec("numpy"):
            print("skipped: numpy is not installed")
            self.skipTest("numpy is not installed")
        with changing("values[:] = number % 3", "__import__('numpy').zeros(5_000)") as worker:
            for dtype, elements in worker.batch([{}] * CALLS):
                self.assertEqual((dtype, len(elements)), ("f64", 5_000))
                self.assertLessEqual(set(elements), {0.0, 1.0, 2.0})
            self.end(worker)

    def test_what_cannot_be_read_while_it_changes_is_refused_and_the_next_call_answered(self) -> None:
        with changing("(values.append if number % 50 else lambda _: values.clear())(1.5)", "__import__('collections').deque()") as worker:
            for answer in worker.batch([{}] * CALLS):
                self.check(answer, "RuntimeError: deque mutated during iteration")
            self.end(worker)

    def test_a_batch_that_still_grows_has_its_answers_counted_once(self) -> None:
        with changing("values[:] = [[1.5]] * (number % 4)", batch=True) as worker:
            for _ in range(CALLS):
                for answer in worker.batch([{}, {}]):
                    self.check(answer, "`output_batch` returned")
            self.end(worker)

    def test_a_result_of_a_job_and_what_is_kept_are_copied_before_they_are_read(self) -> None:
        change = "values.update({str(number % 40): [number]}) or values.pop(str(number % 30), None)"
        with changing(change, "{}") as worker:
            for _ in range(CALLS):
                try:
                    result = worker.run("train")
                except Refused as refused:
                    self.assertRegex(refused.message, "dictionary .* during iteration")
                    continue
                self.assertTrue(all(0 <= int(key) < 40 and len(kept) == 1 for key, kept in result.items()))
            self.end(worker)

    def check(self, answer: Any, expected: str) -> None:
        if isinstance(answer, Refused):
            self.assertIn(expected, answer.message)
        else:
            self.assertLessEqual(set(answer[1]), {1.5})


class Threads(unittest.TestCase):
    def test_logging_that_threads_import_at_once_is_set_up_once(self) -> None:
        script = """
            import threading

            def train(files):
                barrier = threading.Barrier(8)
                def work(number):
                    barrier.wait()
                    import logging
                    logging.info("line %d", number)
                threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        """
        with Worker(script).load() as worker:
            worker.run()
            lines = sorted(entry["message"] for entry in worker.log)
            self.assertEqual(lines, [f"line {number}" for number in range(8)])

    def test_an_interpreter_without_a_global_lock_gets_none(self) -> None:
        script = """
            import sys

            def output(files, ctx):
                ctx.log.info("what a script uses must not bring the lock back, either")
                ctx.state["known"] = 1
                return [getattr(sys, "_is_gil_enabled", lambda: True)()]
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.output(), ("i64", [int(not FREE_THREADED)]))
            self.assertEqual("free-threaded" in worker.hello["language"], FREE_THREADED)
        self.assertNotIn("GIL", worker.stderr)

    def test_numpy_brings_no_global_lock_back(self) -> None:
        if not (FREE_THREADED and importlib.util.find_spec("numpy")):
            print("skipped: this is no free-threaded Python with numpy")
            self.skipTest("this is no free-threaded Python with numpy")
        script = """
            import sys, numpy

            def output(files):
                return numpy.array([sys._is_gil_enabled(), numpy.arange(4.0) @ numpy.arange(4.0)])
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.output(), ("f64", [0, 14]))

    def test_threads_of_one_call_run_at_the_same_time(self) -> None:
        if not FREE_THREADED:
            print("skipped: this Python is not free-threaded")
            self.skipTest("this Python is not free-threaded")
        # Each waits for the other without ever letting go of a lock, if there were one.
        script = """
            import sys, threading, time

            sys.setswitchinterval(3600)

            def output(files):
                turns, ends = [0, 0], time.monotonic() + 60
                def work(mine, other):
                    while turns[mine] < 1000:
                        turns[mine] += 1
                        while turns[other] < turns[mine] and time.monotonic() < ends:
                            pass
                threads = [threading.Thread(target=work, args=pair) for pair in ((0, 1), (1, 0))]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                return [time.monotonic() < ends]
        """
        with Worker(script).load() as worker:
            self.assertEqual(worker.output(), ("i64", [1]))
