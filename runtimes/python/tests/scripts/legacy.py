class ML:
    seen = 0

    def __init__():
        ML.seen = 0

    def handleTrainFile(contents):
        ML.seen += len(contents)

    def handleInputFile(contents):
        ML.seen += len(contents)

    def handleOutputFile(contents):
        return len(contents)
