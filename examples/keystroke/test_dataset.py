"""The split of the repetitions is the paper's, and the threshold is chosen on none that are tried."""

import unittest
from pathlib import Path

import dataset as data

FOLDER = Path("/files")


class Split(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.typed = data.synthesise()

    def test_the_trial_is_the_second_half_and_everybody_elses_first_five(self):
        attempts = [attempt for attempt in self.typed.trial(FOLDER) if attempt.user == "synthetic-03"]
        genuine = [attempt.path for attempt in attempts if attempt.genuine]
        impostor = [attempt.path for attempt in attempts if not attempt.genuine]
        self.assertEqual(genuine, [FOLDER / "synthetic-03" / f"{number}.csv" for number in range(201, 401)])
        self.assertEqual(len(impostor), 11 * 5)
        self.assertEqual({path.name for path in impostor}, {"001.csv", "002.csv", "003.csv", "004.csv", "005.csv"})
        self.assertNotIn("synthetic-03", {path.parent.name for path in impostor})

    def test_calibration_sees_nothing_of_the_trial_and_nothing_of_its_own_enrolment(self):
        calibration = {(attempt.user, attempt.path) for attempt in self.typed.calibration(FOLDER)}
        trial = {(attempt.user, attempt.path) for attempt in self.typed.trial(FOLDER)}
        enrolment = {
            (user, path)
            for user in self.typed.subjects
            for path in self.typed.enrolment(FOLDER, user, data.CALIBRATION_ENROLMENT)
        }
        self.assertEqual(len(calibration), 12 * (10 + 10))
        self.assertFalse(calibration & (trial | enrolment))

    def test_the_synthetic_typists_are_always_the_same(self):
        self.assertEqual(self.typed.lines, data.synthesise().lines)

    def test_a_subject_with_repetitions_missing_is_refused(self):
        with self.assertRaisesRegex(ValueError, "short.csv: ann has 2 repetitions, expected 400"):
            data.Dataset("short.csv", False, {"ann": ["1", "2"]})


if __name__ == "__main__":
    unittest.main()
