"""What every server is made to serve, written once: three models, each a function of one request's path or of a batch of them."""

from functools import cache

WIDTH = 128
CONSTANT = [index * 0.1234567 for index in range(WIDTH)]


def constant(path):
    """The same vector, whatever was asked; only the server's own work is left to measure."""
    return CONSTANT


def means(path):
    """The means of a file of 4 KiB, of 32 bytes each."""
    import numpy

    with open(path, "rb") as file:
        return numpy.frombuffer(file.read(), dtype=numpy.uint8).reshape(WIDTH, -1).mean(axis=1)


def mlp(path):
    """A perceptron with two hidden layers of 1,024 units, for one request."""
    return mlp_batch([path])[0]


def mlp_batch(paths):
    """The same for several requests in one matrix product a layer."""
    import numpy

    rows = numpy.stack([read_row(path) for path in paths])
    first, second, last = weights()
    return numpy.maximum(numpy.maximum(rows @ first, 0) @ second, 0) @ last


def read_row(path):
    import numpy

    with open(path, "rb") as file:
        return numpy.frombuffer(file.read(WIDTH), dtype=numpy.uint8).astype(numpy.float32) / 255


@cache
def weights():
    import numpy

    generator = numpy.random.default_rng(2026)
    shapes = ((WIDTH, 1024), (1024, 1024), (1024, WIDTH))
    return [generator.standard_normal(shape, dtype=numpy.float32) * 0.03 for shape in shapes]


ONE = {"constant": constant, "means": means, "mlp": mlp}
MAX_BATCH = 32
MAX_WAIT_MS = 2


def warm(model):
    """Imports and allocates what the first request would otherwise have to wait for."""
    if model != "constant":
        weights()


def path_of(address):
    """The path in a `file://` address, as every server here is sent it."""
    return address.removeprefix("file://")
