"""The form of the first wrappers: one call a file, and everything in memory."""


class ML:
    def __init__():
        ML.total = 0

    def handleTrainFile(contents):
        ML.total += len(contents)

    def handleInputFile(contents):
        ML.total += len(contents)

    def handleOutputFile(contents):
        return [ML.total, len(contents)]
