def train(files, ctx):
    state = ctx.state
    state["text"] = "ä"
    text = state["text"]
    state["bytes"] = b"\x00\xff"
    length = len(state["bytes"])
    state.increment("n", 2)
    total = state.increment("n", 0.5)
    swapped = state.compare_and_set("text", "ä", "b")
    swapped_again = state.compare_and_set("text", "ä", "c")
    del state["bytes"]
    return {
        "text": text,
        "length": length,
        "sum": total,
        "swapped": swapped,
        "swapped_again": swapped_again,
        "gone": "bytes" not in state,
        "keys": [key for key, _ in state.scan("t")],
    }
