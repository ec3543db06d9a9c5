"""Tells from the rhythm of typing one password whether it was its owner who typed it.

The detector is "Manhattan (scaled)" of Killourhy & Maxion, "Comparing Anomaly-Detection Algorithms for Keystroke
Dynamics", DSN 2009. A user's template is the mean and the mean absolute deviation of each timing over the enrolment
repetitions; the score of a repetition is the sum over the timings of |x - mean| / deviation, so lower is more alike.

A repetition is one file: one CSV line of 31 timings in milliseconds. `model.lua` beside this file does the same.
"""

import json
import math

TIMINGS = 31

# The timings are whole milliseconds, so a deviation below one cannot be told from none.
SMALLEST_DEVIATION = 1.0

# With no calibrated threshold nobody is accepted: a lock without a key stays shut.
ACCEPT_NOBODY = -math.inf


class Model:
    """One worker's model. The templates are in the service's state, the threshold in the active artifact."""

    def __init__(self, ctx):
        self.threshold = read_threshold(ctx.artifact)

    def input(self, files, ctx):
        """Enrols `Params.user` from all `files`, in place of any earlier enrolment.

        Replacing makes the job safe to run twice, and lets a user whose typing has changed enrol afresh.
        """
        user = user_of(ctx.params)
        ctx.state[state_key(user)] = make_template([read_timings(file) for file in files])
        ctx.log.info(f"enrolled {user} from {len(files)} repetitions")
        return {"user": user, "repetitions": len(files)}

    def train(self, files, ctx):
        """Chooses the accept threshold: the score at which as many owners are refused as impostors are accepted.

        `Params.labels` has one `{"user": "…", "genuine": true}` for each file, in the order of the files: whose template
        the repetition is compared with, and whether that user typed it. The users must be enrolled.
        """
        labels = ctx.params.get("labels")
        if not isinstance(labels, list) or len(labels) != len(files):
            raise ValueError(f"`Params.labels` must be a list with one label for each of the {len(files)} files")
        templates, genuine, impostor = {}, [], []
        for done, (file, label) in enumerate(zip(files, labels), start=1):
            user, is_genuine = user_of(label), label.get("genuine")
            if not isinstance(is_genuine, bool):
                raise ValueError(f"label {done}: `genuine` must be true or false")
            if user not in templates:
                templates[user] = template_of(user, ctx)
            score = distance(templates[user], read_timings(file))
            (genuine if is_genuine else impostor).append(score)
            if done % 100 == 0 or done == len(files):
                ctx.progress(done / len(files), f"scored {done} of {len(files)}", genuine=len(genuine), impostor=len(impostor))
        eer, threshold = equal_error(genuine, impostor)
        (ctx.new_artifact() / "threshold.json").write_text(json.dumps({"threshold": threshold}) + "\n")
        return {"eer": eer, "threshold": threshold, "genuine": len(genuine), "impostor": len(impostor)}

    def output(self, files, ctx):
        """Answers `[score, accept]` for one repetition said to be typed by `Params.user`; accept is 1 or 0."""
        if len(files) != 1:
            raise ValueError(f"one repetition is judged at a time, found {len(files)} files")
        score = distance(template_of(user_of(ctx.params), ctx), read_timings(files[0]))
        return [score, 1.0 if score <= self.threshold else 0.0]


def make_template(repetitions):
    """Returns the mean and the mean absolute deviation of each timing over the repetitions."""
    if len(repetitions) < 2:
        raise ValueError(f"enrolment needs at least 2 repetitions, found {len(repetitions)}")
    mean = [average(column) for column in zip(*repetitions)]
    deviation = [average([abs(x - m) for x in column]) for column, m in zip(zip(*repetitions), mean)]
    return {"mean": mean, "deviation": [max(d, SMALLEST_DEVIATION) for d in deviation]}


def distance(template, timings):
    """Returns the scaled Manhattan distance of a repetition from a template."""
    total = 0.0
    for x, mean, deviation in zip(timings, template["mean"], template["deviation"]):
        total += abs(x - mean) / deviation
    return total


def average(values):
    """Adds from left to right, as Lua does: the built-in `sum` rounds differently since Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def equal_error(genuine, impostor):
    """Returns the equal-error rate and its threshold.

    Accepting scores up to a threshold misses the genuine ones above it and lets in the impostors' up to it. As the
    threshold rises through the scores the first rate falls and the second rises; where they cross between two scores,
    both the rate and the threshold are interpolated.
    """
    if not genuine or not impostor:
        raise ValueError(f"both kinds of repetition are needed, found {len(genuine)} genuine and {len(impostor)} impostor")
    genuine, impostor = sorted(genuine), sorted(impostor)
    accepted = let_in = 0
    last_miss, last_false_alarm, last_score = 1.0, 0.0, 0.0
    for score in sorted(genuine + impostor):
        while accepted < len(genuine) and genuine[accepted] <= score:
            accepted += 1
        while let_in < len(impostor) and impostor[let_in] <= score:
            let_in += 1
        miss, false_alarm = 1 - accepted / len(genuine), let_in / len(impostor)
        if false_alarm >= miss:
            break
        last_miss, last_false_alarm, last_score = miss, false_alarm, score
    before, after = last_miss - last_false_alarm, false_alarm - miss
    share = before / (before + after)
    return last_miss + share * (miss - last_miss), last_score + share * (score - last_score)


def read_timings(file):
    """Reads one repetition."""
    fields = file.read().decode(errors="replace").strip().split(",")
    if len(fields) != TIMINGS:
        raise ValueError(f"{file.uri}: expected {TIMINGS} timings separated by commas, found {len(fields)}")
    return [timing(field, file.uri) for field in fields]


def timing(field, uri):
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{uri}: `{field}` is not a number of milliseconds")
    return value


def user_of(params):
    """Returns the `user` that a request or a label names."""
    user = params.get("user") if isinstance(params, dict) else None
    if not isinstance(user, str) or not user:
        raise ValueError('`user` must name a user, for example `Params: {"user": "s002"}`')
    return user


def template_of(user, ctx):
    template = ctx.state.get(state_key(user))
    if template is None:
        raise LookupError(f"user `{user}` is not enrolled; send their repetitions to /input first")
    return template


def state_key(user):
    return f"template/{user}"


def read_threshold(artifact):
    if artifact is None:
        return ACCEPT_NOBODY
    return json.loads((artifact / "threshold.json").read_text())["threshold"]
