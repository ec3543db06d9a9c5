"""What is reckoned on paper, and that the page tells of the figures that are committed."""

import json
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))
import reckoning  # noqa: E402
from capacity import FILE, capacity, footprint, speed  # noqa: E402
from tables import ends_table, fed_table, footprint_table  # noqa: E402

PAGE = HERE.parents[3] / "docs" / "scaling.md"
FOOTPRINT = {
    "idle_cpu_ms_per_second": 2.0,
    "notify_cpu_ms": 0.1,
    "listener_cpu_ms": 0.2,
    "claim_cpu_ms": 1.0,
    "single_job_cpu_ms": 3.0,
    "single_job_wal_bytes": 2000,
    "row_bytes": 600,
    "index_bytes": 400,
}


class OnPaper(unittest.TestCase):
    def test_each_part_of_the_load_is_what_its_formula_says(self):
        load = reckoning.load(FOOTPRINT, 10, 2.0)
        self.assertAlmostEqual(load.jobs, 3.5)
        self.assertAlmostEqual(load.polling_cores, 0.020)
        self.assertAlmostEqual(load.hint_cores, 3.5 * (0.1 + 10 * 0.2 + 3 * 1.0) / 1000)
        self.assertAlmostEqual(load.job_cores, 3.5 * 3.0 / 1000)

    def test_a_replica_notifies_ten_times_a_second_at_most(self):
        slow, fast = (reckoning.load(FOOTPRINT, 10, job_s).hint_cores for job_s in (0.07, 0.007))
        self.assertAlmostEqual(slow, fast)

    def test_one_replica_more_would_be_too_many(self):
        for cores in (2, 32):
            for job_s in (0.05, 2.0, 600.0):
                most = reckoning.most_replicas(FOOTPRINT, job_s, cores)
                self.assertLessEqual(reckoning.load(FOOTPRINT, most, job_s).cores, 0.7 * cores)
                self.assertGreater(reckoning.load(FOOTPRINT, most + 1, job_s).cores, 0.7 * cores)

    def test_jobs_are_kept_for_a_week(self):
        self.assertAlmostEqual(reckoning.kept_gb(FOOTPRINT, 1.0), 0.6048)
        self.assertAlmostEqual(reckoning.log_gb_a_day(FOOTPRINT, 1.0), 86_400 * 10_192 / 1e9)


class Measured(unittest.TestCase):
    def test_the_figures_are_medians_of_our_own_measurements(self):
        ours = {"subject": "dunnage", "model": "constant", "cold_start_s": 0.3}
        serving = [ours | {"cpu_us": cpu} for cpu in (40, 50, 90)]
        serving += [{"subject": "dunnage", "model": "mlp", "cpu_us": 1}, {"subject": "other", "model": "constant", "cpu_us": 1}]
        jobs = [{"subject": "dunnage, PostgreSQL", "rate": 5000.0, "start_ms": [1.0, 2.0, 9.0]}, {"subject": "dunnage, SQLite"}]
        figures = speed(serving, jobs)
        self.assertEqual((figures["request_cpu_us"], figures["jobs_per_second"], figures["job_start_ms"]), (50, 5000.0, 2.0))
        self.assertAlmostEqual(capacity({"speed": figures}).job_s, 0.0002)
        self.assertEqual(footprint([{"row_bytes": 1}, {"row_bytes": 3}]), {"row_bytes": 2})

    def test_the_page_tells_of_the_committed_figures(self):
        figures, page = json.loads(FILE.read_text()), PAGE.read_text()
        for table in (fed_table(figures["speed"]), footprint_table(figures["footprint"]), ends_table(figures["footprint"])):
            self.assertIn(table, page, "`make scaling` has to be run")


if __name__ == "__main__":
    unittest.main()
