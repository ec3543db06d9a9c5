"""`ctx.state`, by a real worker and in memory."""

from __future__ import annotations

import sys
import threading
import unittest
from pathlib import Path

from worker import Worker

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dunnage
from dunnage.testing import MemoryHost

USE = """
    import array

    import dunnage

    def use(ctx):
        state = ctx.state
        for key, value in {"text": "ä", "none": None, "nested": {"a": [1, 2.5, True]}, "bytes": b"\\0\\xff", "large": 2 ** 64 - 1}.items():
            state[key] = value
            assert state[key] == value, (key, state[key])
        assert "none" in state and "absent" not in state and 5 not in state
        assert state.get("absent") is None and state.get("absent", 3) == 3
        assert state.setdefault("text", "other") == "ä" and state.setdefault("default", [1]) == [1] == state["default"]
        assert state.pop("default") == [1] and "default" not in state
        state.update(a=1, b=2)
        assert dict(state.scan("a")) == {"a": 1} and list(state)[:2] == ["a", "b"] and len(state) == 7
        assert state.increment("n") == 1 and state.increment("n", 0.5) == 1.5
        assert state.compare_and_set("cas", None, 1) and not state.compare_and_set("cas", None, 2)
        assert state.compare_and_set("cas", 1, None) and "cas" not in state
        for wrong in (lambda: state["absent"], lambda: state.__delitem__("absent"), lambda: state.pop("absent")):
            raises(KeyError, wrong)
        raises(TypeError, lambda: state.__setitem__("k", object()), "the value of `k` is a object")
        raises(TypeError, lambda: state.__setitem__("k", {1: 2}), "the keys of a JSON object are strings")
        raises(TypeError, lambda: state.increment("n", "1"), "`by` is a str")
        raises(ValueError, lambda: state.__setitem__("k", [float("nan")]), "`k`[0] is nan")
        raises(ValueError, lambda: state.__setitem__("k", 2 ** 64), "more than 64 bits")
        state["array"] = array.array("h", [1, -2, 3])
        assert list(state["array"]) == [1, -2, 3], state["array"]
        state["matrix"] = memoryview(bytes(range(6))).cast("B", [2, 3])
        assert state["matrix"].shape == (2, 3) and state["matrix"].tolist() == [[0, 1, 2], [3, 4, 5]]
        state["empty"] = array.array("d")
        assert len(state["empty"]) == 0
        raises(TypeError, lambda: state.__setitem__("k", memoryview(b"a").cast("?")), "so convert it")
        state.clear()
        assert len(state) == 0 and list(state.scan()) == []
        state.update({f"k{number:05}": number for number in range(2001)})
        assert list(state.values()) == list(range(2001))
        assert len(list(state.scan("k0000"))) == 10

    def use_numpy(ctx):
        import numpy
        for dtype in "f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 >f8 >i2".split():
            for value in (numpy.arange(6).reshape(2, 3).astype(dtype), numpy.zeros((0, 2), dtype), numpy.arange(8).astype(dtype)[::2]):
                ctx.state["a"] = value
                found = ctx.state["a"]
                assert isinstance(found, numpy.ndarray) and found.dtype == value.dtype.newbyteorder("=")
                assert found.shape == value.shape and (found == value).all()
                found[...] = 1
        ctx.state["fortran"] = numpy.asfortranarray(numpy.arange(6).reshape(2, 3))
        assert ctx.state["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
        ctx.state["scalar"] = numpy.float32(0.5)
        assert ctx.state["scalar"] == 0.5 and ctx.state.increment("scalar", numpy.float64(1)) == 1.5
        raises(TypeError, lambda: ctx.state.__setitem__("k", numpy.zeros(2, "float16")), "value.astype('float32')")
        raises(TypeError, lambda: ctx.state.__setitem__("k", numpy.zeros(2, "complex64")), "so convert it")

    def raises(kind, call, text=""):
        try:
            call()
        except kind as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"{kind} was not raised")

    def train(files, ctx):
        use(ctx)

    def input(files, ctx):
        use_numpy(ctx)
"""


def numpy_is_missing() -> bool:
    try:
        import numpy  # noqa: F401
    except ImportError:
        return True
    return False


class State(unittest.TestCase):
    def test_it_is_a_mapping_of_json_bytes_and_arrays(self) -> None:
        with Worker(USE).load() as worker:
            self.assertIsNone(worker.run("train"))

    @unittest.skipIf(numpy_is_missing(), "numpy is not installed")
    def test_arrays_of_numpy_keep_their_type_and_shape(self) -> None:
        with Worker(USE).load() as worker:
            self.assertIsNone(worker.run("input"))

    def test_values_travel_as_json_bytes_and_typed_little_endian_arrays(self) -> None:
        script = """
            import array
            def train(files, ctx):
                ctx.state["json"] = {"a": 1}
                ctx.state["bytes"] = bytearray(b"ab")
                ctx.state["array"] = array.array("i", [1, 258])
        """
        with Worker(script).load() as worker:
            worker.run()
            array = {"dtype": "i32", "shape": [2], "data": b"\x01\0\0\0\x02\x01\0\0"}
            self.assertEqual(worker.state, {"json": {"json": {"a": 1}}, "bytes": {"bytes": b"ab"}, "array": {"array": array}})

    def test_without_numpy_an_array_is_read_as_a_memoryview(self) -> None:
        script = """
            import sys
            sys.modules["numpy"] = None
            def train(files, ctx):
                found = ctx.state["array"]
                return [type(found).__name__, found.format, found.tolist(), list(ctx.state["empty"])]
        """
        with Worker(script).load() as worker:
            data = b"\0\0\x80?\0\0\0@"
            worker.state["array"] = {"array": {"dtype": "f32", "shape": [2, 1], "data": data}}
            worker.state["empty"] = {"array": {"dtype": "f32", "shape": [0, 3], "data": b""}}
            self.assertEqual(worker.run(), ["memoryview", "f", [[1.0], [2.0]], []])

    def test_an_array_that_is_not_what_it_says_is_refused(self) -> None:
        with Worker("def train(files, ctx): return str(ctx.state['a'])").load() as worker:
            worker.state["a"] = {"array": {"dtype": "f32", "shape": [3], "data": b"\0\0\0\0"}}
            with self.assertRaisesRegex(Exception, "shape does not fit"):
                worker.run()


class InMemory(unittest.TestCase):
    def test_a_context_made_by_hand_keeps_the_state_in_memory(self) -> None:
        import textwrap

        script: dict[str, object] = {}
        exec(textwrap.dedent(USE), script)
        use = script["use"]
        assert callable(use)
        use(dunnage.Context())

    def test_threads_lose_nothing_of_a_state_in_memory(self) -> None:
        context = dunnage.Context()
        folders = []

        def work() -> None:
            folders.append(context.new_artifact())
            for _ in range(2_000):
                context.state.increment("n")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(context.state["n"], 16_000)
        self.assertEqual(len(set(folders)), 1)
        folders[0].rmdir()

    def test_a_test_can_cancel_and_read_what_was_reported(self) -> None:
        host = MemoryHost()
        context = dunnage.Context(params={"a": 1}, host=host)
        context.progress(0.5, "half", loss=0.25)
        host.cancelled = True
        self.assertTrue(context.cancelled)
        self.assertEqual(host.reports, [(0.5, "half", {"loss": 0.25})])
        self.assertEqual(context.new_artifact(), context.new_artifact())
        context.new_artifact().rmdir()

    def test_a_file_made_by_hand_knows_its_size(self) -> None:
        file = dunnage.File(__file__)
        self.assertEqual((file.size, file.path, file.uri), (len(file.read()), Path(__file__), f"file://{__file__}"))
