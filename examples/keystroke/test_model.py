"""The detector against numbers worked out by hand. Needs the `dunnage` package of runtimes/python."""

import json
import shutil
import tempfile
import unittest
from pathlib import Path

import dunnage
from dunnage.testing import MemoryHost

import model


class Folder(unittest.TestCase):
    """A folder of repetitions, and one server in memory for all calls of a test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.host = MemoryHost()

    def context(self, artifact=None, **params):
        return dunnage.Context(params=params, artifact=artifact, host=self.host)

    def repetitions(self, *firsts):
        """Files whose first timing is given and whose others are 100."""
        return [self.file(f"{number}.csv", [first] + 30 * [100]) for number, first in enumerate(firsts)]

    def file(self, name, timings):
        path = self.folder / name
        path.write_text(",".join(map(str, timings)) + "\n")
        return dunnage.File(path)

    def enrol(self, user, *firsts):
        context = self.context(user=user)
        return model.Model(context).input(self.repetitions(*firsts), context)

    def output(self, user, file, artifact=None):
        context = self.context(artifact, user=user)
        return model.Model(context).output([file], context)


class Scores(Folder):
    def test_a_template_is_the_mean_and_the_mean_absolute_deviation(self):
        template = model.make_template([[10.0] * 31, [20.0] * 31, [60.0] * 31])
        self.assertEqual(template["mean"], [30.0] * 31)
        self.assertEqual(template["deviation"], [20.0] * 31)

    def test_a_score_is_the_sum_of_scaled_distances(self):
        self.enrol("ann", 90, 110, 70, 130)  # mean 100, deviation 20; the others have no deviation, which counts as 1
        score, _ = self.output("ann", self.file("probe.csv", [150, 103] + 29 * [100]))
        self.assertEqual(score, 50 / 20 + 3 / 1)

    def test_enrolling_again_replaces_the_template(self):
        self.enrol("ann", 90, 110)
        self.assertEqual(self.enrol("ann", 290, 310), {"user": "ann", "repetitions": 2})
        self.assertEqual(self.output("ann", self.repetitions(300)[0])[0], 0)

    def test_nobody_is_accepted_before_calibration(self):
        self.enrol("ann", 90, 110)
        self.assertEqual(self.output("ann", self.repetitions(100)[0]), [0.0, 0.0])


class Calibration(Folder):
    def train(self, firsts, genuine):
        labels = [{"user": "ann", "genuine": word} for word in genuine]
        context = self.context(labels=labels)
        artifact = context.new_artifact()
        self.addCleanup(shutil.rmtree, artifact)
        return model.Model(context).train(self.repetitions(*firsts), context), artifact

    def test_training_writes_the_threshold_that_output_then_uses(self):
        self.enrol("ann", 90, 110)  # mean 100, deviation 10
        result, artifact = self.train([110, 120, 140, 150], [True, True, False, False])  # scores 1, 2, 4, 5
        self.assertEqual(result, {"eer": 0.0, "threshold": 2.0, "genuine": 2, "impostor": 2})
        self.assertEqual(json.loads((artifact / "threshold.json").read_text()), {"threshold": 2.0})
        self.assertEqual(self.host.reports[-1], (1.0, "scored 4 of 4", {"genuine": 2, "impostor": 2}))
        answers = [self.output("ann", file, artifact) for file in self.repetitions(120, 121)]
        self.assertEqual(answers, [[2.0, 1.0], [2.1, 0.0]])

    def test_every_file_needs_a_label(self):
        self.enrol("ann", 90, 110)
        with self.assertRaisesRegex(ValueError, "one label for each of the 2 files"):
            self.train([110, 120], [True])

    def test_a_label_says_true_or_false(self):
        self.enrol("ann", 90, 110)
        with self.assertRaisesRegex(ValueError, "label 2: `genuine` must be true or false"):
            self.train([110, 120], [True, "no"])

    def test_both_kinds_of_repetition_are_needed(self):
        self.enrol("ann", 90, 110)
        with self.assertRaisesRegex(ValueError, "found 2 genuine and 0 impostor"):
            self.train([110, 120], [True, True])


class Mistakes(Folder):
    def test_an_unknown_user_is_named(self):
        with self.assertRaisesRegex(LookupError, "user `bob` is not enrolled"):
            self.output("bob", self.repetitions(100)[0])

    def test_a_missing_user_is_asked_for(self):
        with self.assertRaisesRegex(ValueError, "`user` must name a user"):
            self.output(None, self.repetitions(100)[0])

    def test_a_wrong_number_of_timings_is_counted(self):
        self.enrol("ann", 90, 110)
        with self.assertRaisesRegex(ValueError, "short.csv: expected 31 timings separated by commas, found 3"):
            self.output("ann", self.file("short.csv", [1, 2, 3]))

    def test_what_is_no_number_is_quoted(self):
        self.enrol("ann", 90, 110)
        for word in ["fast", "", "nan", "inf"]:
            with self.assertRaisesRegex(ValueError, f"odd.csv: `{word}` is not a number of milliseconds"):
                self.output("ann", self.file("odd.csv", [word] + 30 * [100]))

    def test_one_repetition_is_not_enough_to_enrol(self):
        with self.assertRaisesRegex(ValueError, "at least 2 repetitions, found 1"):
            self.enrol("ann", 100)


class EqualError(unittest.TestCase):
    def test_separate_scores_have_no_error(self):
        self.assertEqual(model.equal_error([1, 2], [3, 4]), (0.0, 2.0))

    def test_the_rates_cross_at_a_score(self):
        # Accepting up to 3 misses the genuine 5 of four and lets in the impostor 3 of four.
        eer, threshold = model.equal_error([1, 2, 2.5, 5], [3, 6, 7, 8])
        self.assertEqual((eer, threshold), (0.25, 3))

    def test_the_rates_cross_between_two_scores(self):
        # Up to 1: miss 1/2, false alarm 0. Up to 2: miss 1/2, false alarm 1. They meet half way.
        self.assertEqual(model.equal_error([1, 3], [2]), (0.5, 1.5))

    def test_scores_that_say_nothing_err_half_the_time(self):
        self.assertEqual(model.equal_error([1, 1], [1, 1])[0], 0.5)


if __name__ == "__main__":
    unittest.main()
