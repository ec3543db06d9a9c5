"""How containers end: by SIGTERM, under load, and for want of memory; and what the first process of one sees to."""

import http.client
import itertools
import json
import threading
import time
import unittest

from containers import ANYBODY, PATIENCE_SECS, Container, eventually, form, user_image

RATE = 200
CLIENTS = 8
LOAD_SECS = 3


class Endings(unittest.TestCase):
    def test_a_running_job_ends_within_the_grace(self):
        with Container(user_image("python")) as container:
            job = running(container, {"sleep": 3})
            self.assertEqual(container.stop(), 0)
            container.start()
            status = container.job(job)
            self.assertEqual((status["state"], status["attempt"]), ("done", 1), status)

    def test_a_job_that_takes_longer_is_handed_back_and_runs_again(self):
        with Container(user_image("python"), environment={**ANYBODY, "DUNNAGE_GRACE": "1s"}) as container:
            job = running(container, {"sleep": 4})
            began = time.monotonic()
            self.assertEqual(container.stop(), 0)
            self.assertLess(time.monotonic() - began, 4)
            container.start()
            status = container.ended(job)
            self.assertEqual((status["state"], status["attempt"]), ("done", 1), status)

    def test_stopping_under_load_loses_no_answer_and_no_job(self):
        for language in ("python", "lua"):
            with self.subTest(language), Container(user_image(language)) as container:
                load = Load(container)
                load.run_until(lambda: self.assertEqual(container.stop(), 0))
                self.assertEqual(load.lost, [])
                self.assertGreater(len(load.vectors), RATE * LOAD_SECS / 2)
                self.assertTrue(all(vector == [1, 2, 3, 6] for vector in load.vectors))
                container.start()
                for job in load.jobs:
                    self.assertEqual(container.ended(job)["state"], "done")
                self.assertEqual(container.output({"seen": True}), [len(load.jobs)])

    def test_a_job_that_eats_up_the_memory_says_so_and_nothing_else_ends(self):
        settings = {**ANYBODY, "DUNNAGE_MAX_ATTEMPTS": "1"}
        with Container(user_image("python"), "--memory=256m", "--memory-swap=256m", environment=settings) as container:
            status = container.ended(container.submit("/input", {"eat_mib": 2000}))
            self.assertEqual(status["error"]["code"], "worker_crashed", status)
            self.assertIn("memory ran out", status["error"]["message"])
            self.assertEqual(container.output(), [1, 2, 3, 6])
            self.assertEqual(container.inspect("{{.RestartCount}}"), "0")

    def test_orphans_are_reaped_and_end_with_their_worker(self):
        with Container(user_image("python"), environment={**ANYBODY, "DUNNAGE_JOB_IDLE": "5s"}) as container:
            container.done("/input", {"orphans": 10})
            lasting = [command for _, command in container.processes() if command == "sleep 1000"]
            self.assertEqual(len(lasting), 10)
            eventually("the brief ones are reaped", lambda: not [one for one in container.processes() if "sleep 0.1" in one[1]])
            eventually("the lasting ones end", lambda: not [one for one in container.processes() if "sleep" in one[1]])
            self.assertEqual([state for state, _ in container.processes() if state.startswith("Z")], [])


def running(container, parameters):
    """The id of a job that runs."""
    job = container.submit("/input", parameters)
    eventually(f"job {job} runs", lambda: container.job(job)["state"] == "running")
    return job


class Load:
    """Clients that ask and submit jobs, at `RATE` requests a second together, until the container has ended.

    `lost` has what became of requests that had begun before it was told to end and were not answered, and of those of which half an
    answer came. Later ones may be refused.
    """

    def __init__(self, container):
        self.address = container.address
        self.vectors, self.jobs, self.lost = [], [], []
        self.told_to_end = self.has_ended = False

    def run_until(self, stop):
        """Stops the container in the midst of the load."""
        clients = [threading.Thread(target=self.ask, args=[number]) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(LOAD_SECS)
        self.told_to_end = True
        stop()
        self.has_ended = True
        for client in clients:
            client.join()

    def ask(self, number):
        """What one client does: every tenth time it submits a job, and otherwise it asks."""
        begin = time.monotonic() + number / RATE
        for turn in itertools.count(number):
            if self.has_ended:
                return
            begin += CLIENTS / RATE
            time.sleep(max(0, begin - time.monotonic()))
            self.ask_once("/input" if turn % 10 == 0 else "/output")

    def ask_once(self, path):
        was_told = self.told_to_end
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_SECS)
        answer = None
        try:
            connection.request("POST", path, *form(None))
            answer = connection.getresponse()
            self.note(answer.status, json.loads(answer.read()))
        except (OSError, http.client.HTTPException) as problem:
            if answer or not was_told:
                self.lost.append(f"{path}: {problem!r}")
        finally:
            connection.close()

    def note(self, status, body):
        if status == 200:
            self.vectors.append(body["outputVector"])
        elif status == 202:
            self.jobs.append(body["jobId"])
        elif body["code"] != "shutting_down":
            self.lost.append(f"{status}: {body}")
