"""What `output` may return, and what it may not: each case through a real worker."""

from __future__ import annotations

import importlib.util
import unittest

from worker import Refused, Worker

SCRIPT = """
    import array, collections, ctypes, decimal, fractions

    class Matrix:
        def __array__(self, dtype=None, copy=None):
            import numpy
            return numpy.array([1.5, 2.5])

    class Metres(float):
        pass

    async def waited():
        return [1]

    def generated():
        yield 1

    def output(files, ctx):
        names = dict(globals())
        for name in ("numpy", "torch"):
            if name + "." in ctx.params["value"]:
                names[name] = __import__(name)
        return eval(ctx.params["value"], names)
"""
MAX = 2**63 - 1

PLAIN = [
    ("[1, 2, 3]", "i64", [1, 2, 3]),
    ("[0.5, 2]", "f64", [0.5, 2.0]),
    ("[2, 0.5]", "f64", [2.0, 0.5]),
    ("[0.5, -2.5]", "f64", [0.5, -2.5]),
    ("(0.5, -2.5)", "f64", [0.5, -2.5]),
    ("(0.5, 2, True)", "f64", [0.5, 2.0, 1.0]),
    ("[0.5, Metres(2)]", "f64", [0.5, 2.0]),
    ("(1, -2)", "i64", [1, -2]),
    ("[]", "i64", []),
    ("()", "i64", []),
    ("[True, False]", "i64", [1, 0]),
    ("[True, 0.5]", "f64", [1.0, 0.5]),
    (f"[{MAX}, {-MAX - 1}]", "i64", [MAX, -MAX - 1]),
    ("range(3)", "i64", [0, 1, 2]),
    ("collections.deque([1, 2.5])", "f64", [1.0, 2.5]),
    ("collections.UserList([1, 2])", "i64", [1, 2]),
    ("[decimal.Decimal('0.5'), fractions.Fraction(1, 4)]", "f64", [0.5, 0.25]),
    ("array.array('f', [1, 2])", "f32", [1.0, 2.0]),
    ("array.array('d', [0.1])", "f64", [0.1]),
    ("array.array('b', [-1, 1])", "i64", [-1, 1]),
    ("array.array('B', [255])", "i64", [255]),
    ("array.array('h', [-300])", "i64", [-300]),
    ("array.array('I', [2 ** 32 - 1])", "i64", [2**32 - 1]),
    (f"array.array('q', [{-MAX - 1}])", "i64", [-MAX - 1]),
    (f"array.array('Q', [{MAX}])", "i64", [MAX]),
    ("array.array('d')", "f64", []),
    ("memoryview(array.array('d', [1, 2, 3, 4]))[::2]", "f64", [1.0, 3.0]),
    ("memoryview(b'ab')", "i64", [97, 98]),
    ("(ctypes.c_float * 2)(1, 2)", "f32", [1.0, 2.0]),
    ("(ctypes.c_int16 * 2)(1, -2)", "i64", [1, -2]),
    ("(ctypes.c_bool * 2)(True, False)", "i64", [1, 0]),
]
NUMPY = [
    ("numpy.array([1, 2], 'float32')", "f32", [1.0, 2.0]),
    ("numpy.array([0.1])", "f64", [0.1]),
    ("numpy.array([1.5, -0.0, 65504, 6e-8, 0.1], 'float16')", "f32", [1.5, 0.0, 65504.0, 2.0**-24, 0.0999755859375]),
    ("numpy.array([1, -2])", "i64", [1, -2]),
    ("numpy.array([-1], 'int8')", "i64", [-1]),
    ("numpy.array([65535], 'uint16')", "i64", [65535]),
    ("numpy.array([True, False])", "i64", [1, 0]),
    ("numpy.array([1.5, 2.5], '>f8')", "f64", [1.5, 2.5]),
    ("numpy.array([258], '>i2')", "i64", [258]),
    ("numpy.arange(6.0)[::2]", "f64", [0.0, 2.0, 4.0]),
    ("numpy.arange(3)[::-1]", "i64", [2, 1, 0]),
    ("numpy.zeros(0, 'float32')", "f32", []),
    ("numpy.array([1, 2.5], dtype=object)", "f64", [1.0, 2.5]),
    ("[numpy.float32(0.5), numpy.float64(1)]", "f64", [0.5, 1.0]),
    ("[numpy.int64(5), numpy.uint8(6), numpy.bool_(True)]", "i64", [5, 6, 1]),
    ("Matrix() if numpy.array else None", "f64", [1.5, 2.5]),
    ("numpy.frombuffer(b'\\0\\0\\x80?', 'float32')", "f32", [1.0]),
]
TORCH = [
    ("torch.tensor([1.5, 2.5])", "f32", [1.5, 2.5]),
    ("torch.tensor([1.5], requires_grad=True) * 2", "f32", [3.0]),
    ("torch.tensor([1, 2])", "i64", [1, 2]),
    ("torch.tensor([0.5], dtype=torch.bfloat16)", "f32", [0.5]),
    ("torch.tensor([0.5], dtype=torch.float16)", "f32", [0.5]),
    ("[torch.tensor(1), torch.tensor(2)]", "i64", [1, 2]),
    ("torch.ones(4)[::2]", "f32", [1.0, 1.0]),
]
REFUSED = [
    ("None", "`output` returned None; .*`return` missing"),
    ("'1, 2'", "`output` returned a str; return a flat list"),
    ("b'ab'", "returned a bytes; return a flat list"),
    ("bytearray(b'ab')", "returned a bytearray"),
    ("{'a': 1}", "returned a dict; return a flat list"),
    ("{1, 2}", r"returned a set; return list\(value\)"),
    ("generated()", r"returned a generator; return list\(value\)"),
    ("waited()", "returned a coroutine; .*not `async def`"),
    ("3", r"returned a single number \(3\); return \[value\]"),
    ("0.5", r"returned a single number \(0.5\); return \[value\]"),
    ("True", r"returned a single number \(True\)"),
    ("1j", r"returned a single number \(1j\)"),
    ("10 ** 5000", "returned a single number"),
    ("object()", "returned an object; return a flat list"),
    ("[[1, 2]]", "element 0 is a list; return a flat vector"),
    ("[1, (2, 3)]", "element 1 is a tuple; return a flat vector"),
    ("[1, 'a']", "element 1 is a str, not a number"),
    ("[0.5, 'a']", "element 1 is a str, not a number"),
    ("(0.5, [2.5])", "element 1 is a list; return a flat vector"),
    ("[1, None]", "element 1 is a NoneType, not a number"),
    ("[1j]", "element 0 is a complex, not a number"),
    ("[2 ** 63]", "element 0 is 0x8000000000000000, which needs more than 64 bits; return floats"),
    ("[10 ** 5000]", "element 0 is 0x.*more than 64 bits"),
    ("array.array('Q', [2 ** 63])", "element 0 is 9223372036854775808, which needs more than 63 bits; return floats"),
    ("memoryview(bytes(4)).cast('B', [2, 2])", r"returned a memoryview of shape \(2, 2\); return value.ravel\(\)"),
    ("((ctypes.c_float * 2) * 2)()", r"of shape \(2, 2\)"),
    ("memoryview(b'ab').cast('c')", "in the format 'c', which are no real numbers"),
]
NUMPY_REFUSED = [
    ("numpy.ma.array([1, 2], mask=[0, 1])", r"returned a MaskedArray; say what stands for the masked elements"),
    ("numpy.zeros((1, 3))", r"returned an ndarray of shape \(1, 3\); return value.ravel\(\)"),
    ("numpy.array(1.5)", r"returned a single number \(array\(1.5\)\); return \[value\]"),
    ("numpy.float64(1.5)", r"returned a single number .*; return \[value\]"),
    ("[numpy.zeros(2)]", r"element 0 is an ndarray of shape \(2,\); return a flat vector"),
    ("numpy.array([1j])", "no real numbers"),
    ("numpy.array(['a'])", "`output`.*"),
    ("numpy.array(['2020-01-01'], 'datetime64[D]')", "`output`.*element 0 is a date"),
    ("numpy.array([2 ** 64 - 1], 'uint64')", "element 0 is 18446744073709551615"),
]
TORCH_REFUSED = [
    ("torch.zeros(1, 3)", r"returned a Tensor of shape \(1, 3\); return value.ravel\(\)"),
    ("torch.tensor(1.5)", "returned a single number"),
    ("[torch.zeros(2)]", r"element 0 is a Tensor of shape \(2,\)"),
]


def needs(module: str) -> bool:
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"skipped: {module} is not installed")
    return found


class Output(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = Worker(SCRIPT).load()

    @classmethod
    def tearDownClass(cls) -> None:
        assert cls.worker.close() == 0, cls.worker.stderr

    def test_lists_buffers_and_sequences_are_vectors(self) -> None:
        self.check_accepted(PLAIN)

    def test_what_is_no_flat_vector_is_refused_with_a_hint(self) -> None:
        self.check_refused(REFUSED)

    @unittest.skipUnless(needs("numpy"), "numpy is not installed")
    def test_arrays_of_numpy_are_vectors(self) -> None:
        self.check_accepted(NUMPY)

    @unittest.skipUnless(needs("numpy"), "numpy is not installed")
    def test_arrays_of_numpy_that_are_no_flat_vector_are_refused_with_a_hint(self) -> None:
        self.check_refused(NUMPY_REFUSED)

    @unittest.skipUnless(needs("torch"), "torch is not installed")
    def test_tensors_are_vectors(self) -> None:
        self.check_accepted(TORCH)

    @unittest.skipUnless(needs("torch"), "torch is not installed")
    def test_tensors_that_are_no_flat_vector_are_refused_with_a_hint(self) -> None:
        self.check_refused(TORCH_REFUSED)

    def check_accepted(self, cases: list[tuple[str, str, list[float]]]) -> None:
        for value, dtype, elements in cases:
            with self.subTest(value):
                self.assertEqual(self.worker.output({"value": value}), (dtype, elements))

    def check_refused(self, cases: list[tuple[str, str]]) -> None:
        for value, message in cases:
            with self.subTest(value):
                with self.assertRaises(Refused) as caught:
                    self.worker.output({"value": value})
                self.assertEqual(caught.exception.code, "bad_output", caught.exception)
                self.assertRegex(caught.exception.message, message)
