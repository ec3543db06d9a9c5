"""One replica: a serving worker with its queue of requests for `/output`, and a job worker, on the cores that the task has."""

from dataclasses import dataclass

MAX_QUEUE_WAIT = 2.0  # --max-queue-wait
ALWAYS_WAIT = 16  # so many may wait for a worker however long that takes


@dataclass(frozen=True)
class Capacity:
    """What the product itself takes, as `make bench` has measured it (`capacity.json`)."""

    request_cpu_s: float  # processor time of server and worker for a request whose script takes none
    job_s: float  # what lies between two jobs of a worker that has always the next
    start_s: float  # from when a job is put to when an idle worker begins it
    cold_start_s: float  # from the start of the process to its first right answer


@dataclass(frozen=True)
class Script:
    """What the user's script takes. It outweighs the product by far, and is an assumption: nobody but its author knows it."""

    output_s: float = 0.030  # processor time of a request
    job_s: float = 2.0  # the mean time of a job
    job_spread: float = 0.5  # of the logarithm of a job's time; 0 where all take the same
    job_cpu: float = 1.0  # how much of the core a job uses: 1 where it computes, little where it waits for a GPU or for S3

    def draw_job(self, draw):
        """The time of one job."""
        return self.job_s * draw.lognormvariate(-self.job_spread**2 / 2, self.job_spread)


class Replica:
    """A task with one core, which its two workers share fairly when both want it."""

    def __init__(self, capacity, script, ready_at):
        self.script, self.request_s = script, script.output_s + capacity.request_cpu_s
        self.free_at = ready_at  # when the serving worker has done all that waits for it
        self.job = None  # when the running job arrived
        self.begun = self.idle_since = self.looked_at = ready_at
        self.attempt = 0
        self.owed = 0.0  # what requests have taken from the running job, and it has not made up for yet
        self.serving_s = self.cpu_s = self.serving_s_before = self.cpu_s_before = 0.0

    def answer(self, now):
        """How long a request takes that comes now, or `None` if it is refused. Accepted ones are served in turn, so that the time
        at which the worker is free says all about its queue."""
        begin = self.free_at if self.free_at > now else now
        wait = begin - now
        if wait > MAX_QUEUE_WAIT and wait > ALWAYS_WAIT * self.request_s:
            return None
        from_job = self.request_s * self.script.job_cpu if self.job is not None else 0.0
        taken = self.request_s + from_job
        self.owed += from_job
        self.free_at = begin + taken
        self.serving_s += taken
        self.cpu_s += self.request_s - from_job
        return wait + taken

    def begin(self, arrived, now):
        """Begins a job; it has none."""
        self.job, self.begun, self.owed = arrived, now, 0.0
        self.attempt += 1

    def is_at(self, attempt):
        """Whether that attempt still runs here."""
        return self.job is not None and self.attempt == attempt

    def waited(self):
        """How long the running job had waited when it began."""
        return self.begun - self.job

    def settle(self):
        """What the job must still run to make up for what requests have taken from it."""
        owed, self.owed = self.owed, 0.0
        return owed

    def end(self, now):
        """Ends the running job, or takes it away."""
        self.cpu_s += (now - self.begun) * self.script.job_cpu
        self.job, self.idle_since = None, now

    def used_since_last_look(self, now):
        """Seconds since then, how many of them the serving worker was busy, and seconds of processor time."""
        serving_s = self.serving_s - max(0.0, self.free_at - now)
        cpu_s = self.cpu_s + ((now - self.begun) * self.script.job_cpu if self.job is not None else 0.0)
        used = now - self.looked_at, serving_s - self.serving_s_before, cpu_s - self.cpu_s_before
        self.looked_at, self.serving_s_before, self.cpu_s_before = now, serving_s, cpu_s
        return used
