"""The repetitions that the demo types, and which of them it uses for what."""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "keystroke/cmu-strongpassword-ms.csv"
REPETITIONS = 400
TIMINGS = 31

# Killourhy & Maxion: a template is made of a subject's first half and tried on the second, and on the first repetitions
# of everybody else.
ENROLMENT = range(0, 200)
GENUINE = range(200, 400)
IMPOSTOR = range(0, 5)

# The threshold is chosen on repetitions that the trial never sees, with templates made of the rest of the first half.
CALIBRATION_ENROLMENT = range(0, 150)
CALIBRATION_GENUINE = range(150, 200, 5)
CALIBRATION_IMPOSTOR = 5
CALIBRATION_IMPOSTORS_PER_SUBJECT = 10


@dataclass(frozen=True)
class Attempt:
    """One repetition said to be typed by `user`."""

    user: str
    path: Path
    genuine: bool


class Dataset:
    """Every subject's repetitions in the order they were typed, as CSV lines of timings in milliseconds."""

    def __init__(self, name, synthetic, lines):
        self.name = name
        self.synthetic = synthetic
        self.lines = lines
        self.subjects = sorted(lines)
        for subject in self.subjects:
            if len(lines[subject]) != REPETITIONS:
                raise ValueError(f"{name}: {subject} has {len(lines[subject])} repetitions, expected {REPETITIONS}")

    def write(self, folder):
        """Writes one file a repetition."""
        for subject in self.subjects:
            (folder / subject).mkdir(parents=True)
            for index, line in enumerate(self.lines[subject]):
                path_of(folder, subject, index).write_text(line + "\n")

    def enrolment(self, folder, subject, repetitions=ENROLMENT):
        """The files to enrol a subject from."""
        return [path_of(folder, subject, index) for index in repetitions]

    def calibration(self, folder):
        """The labelled repetitions that the threshold is chosen on."""
        for position, user in enumerate(self.subjects):
            for index in CALIBRATION_GENUINE:
                yield Attempt(user, path_of(folder, user, index), genuine=True)
            others = self.subjects[position + 1 :] + self.subjects[:position]
            for other in others[:CALIBRATION_IMPOSTORS_PER_SUBJECT]:
                yield Attempt(user, path_of(folder, other, CALIBRATION_IMPOSTOR), genuine=False)

    def trial(self, folder):
        """The paper's trial: each subject's second half, and everybody else's first repetitions."""
        for user in self.subjects:
            for index in GENUINE:
                yield Attempt(user, path_of(folder, user, index), genuine=True)
            for other in self.subjects:
                if other != user:
                    for index in IMPOSTOR:
                        yield Attempt(user, path_of(folder, other, index), genuine=False)


def path_of(folder, subject, index):
    return folder / subject / f"{index + 1:03}.csv"


def read(path):
    """Reads the data of the paper, in whole milliseconds."""
    lines = {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        if len(header) != TIMINGS + 3:
            raise ValueError(f"{path}: expected {TIMINGS + 3} columns, found {len(header)}")
        for subject, _session, _repetition, *timings in rows:
            lines.setdefault(subject, []).append(",".join(timings))
    return Dataset(str(path), False, lines)


def synthesise(subjects=12, seed=20090629):
    """Makes up typists of the same shape, always the same ones; they stand for nobody and their figures for nothing."""
    generator = random.Random(seed)
    lines = {}
    for number in range(1, subjects + 1):
        habits = [(generator.gauss(200, 30), generator.uniform(20, 60)) for _ in range(TIMINGS)]
        lines[f"synthetic-{number:02}"] = [synthetic_line(generator, habits) for _ in range(REPETITIONS)]
    return Dataset("synthetic typists", True, lines)


def synthetic_line(generator, habits):
    pace = generator.gauss(1, 0.1)
    return ",".join(str(int(generator.gauss(mean, spread) * pace)) for mean, spread in habits)
