"""What a user's image does: a base image and a script."""

import tempfile
import unittest
from pathlib import Path

from containers import ANYBODY, Container, docker, eventually, user_image

DATA = "dunnage-test-data"


class Service:
    """What holds for each image; `language` says for which."""

    def test_the_four_endpoints_answer(self):
        with Container(user_image(self.language)) as container:
            self.use(container)

    def test_a_read_only_root_and_any_user_will_do(self):
        options = ["--read-only", "--user=47110", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        with Container(user_image(self.language), *options) as container:
            self.use(container)

    def test_what_was_learnt_is_kept_across_a_restart(self):
        with Container(user_image(self.language)) as container:
            self.use(container)
            self.assertEqual(container.stop(), 0)
            container.start()
            self.assert_learnt(container)

    def use(self, container):
        self.assertEqual(container.output(), [1, 2, 3, 6])
        self.assertEqual(container.done("/train"), {"count": 4})
        self.assertEqual(container.done("/input")["seen"], 1)
        self.assert_learnt(container)

    def assert_learnt(self, container):
        self.assertEqual(container.output(), [-2, -1, 0, 3])
        self.assertEqual(container.output({"seen": True}), [1])


class InPython(Service, unittest.TestCase):
    language = "python"

    def test_what_was_learnt_is_kept_in_a_volume_for_the_next_container(self):
        docker("volume", "create", DATA)
        self.addCleanup(docker, "volume", "rm", DATA)
        image, options = user_image(self.language), [f"--volume={DATA}:/data"]
        with Container(image, *options) as container:
            self.use(container)
            container.stop()
        with Container(image, *options) as container:
            self.assert_learnt(container)


class InLua(Service, unittest.TestCase):
    language = "lua"


class InLuaOnTheImageForBoth(Service, unittest.TestCase):
    language = "full"


class Settings(unittest.TestCase):
    def test_without_tokens_the_start_is_refused_with_the_way_out(self):
        with Container(user_image("python"), environment={}, is_ready=False) as container:
            self.assertEqual(docker("wait", container.id), "2")
            self.assertRegex(container.log(), r"name who may with .*`DUNNAGE_TOKENS`.*`DUNNAGE_ALLOW_ANONYMOUS=true`")

    def test_tokens_let_in_those_who_have_them(self):
        token = "a-token-of-thirty-two-characters"
        with Container(user_image("lua"), environment={"DUNNAGE_TOKENS": f"infer {token}"}) as container:
            self.assertEqual(container.send("/output")[0], 401)
            self.assertEqual(docker("exec", container.id, "dunnage", "health"), "ready")

    def test_a_folder_for_the_data_that_belongs_to_somebody_else_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            with Container(user_image("python"), f"--volume={folder}:/data", is_ready=False) as container:
                self.assertEqual(docker("wait", container.id), "2")
                self.assertIn("`--data-dir /data` may not be written to", container.log())

    def test_the_data_may_lie_elsewhere(self):
        elsewhere = {**ANYBODY, "DUNNAGE_DATA_DIR": "/elsewhere/data"}
        with Container(user_image("lua"), "--read-only", "--tmpfs=/elsewhere:mode=1777", environment=elsewhere) as container:
            docker("exec", container.id, "test", "-e", "/elsewhere/data/dunnage.db")

    def test_docker_is_told_how_it_is(self):
        options = ["--health-interval=1s"]
        with Container(user_image("python"), *options, environment={**ANYBODY, "DUNNAGE_PORT": "8081"}, is_ready=False) as other:
            eventually("it is healthy", lambda: other.is_running() and other.inspect("{{.State.Health.Status}}") == "healthy")
        broken = {**ANYBODY, "DUNNAGE_PYTHON": "/usr/bin/false"}
        options += ["--health-retries=1", "--health-start-period=1s"]
        with Container(user_image("python"), *options, environment=broken, is_ready=False) as container:
            eventually("it is not", lambda: container.inspect("{{.State.Health.Status}}") == "unhealthy")
