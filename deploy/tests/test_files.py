"""Every deployment file is as its platform wants it, as far as tools can tell."""

import tempfile
import unittest
from pathlib import Path

import validators
from documents import DEPLOY, ROOT

STACK = ROOT / "docker" / "compose.yaml"


class Files(unittest.TestCase):
    maxDiff = None

    def test_no_tool_complains_of_any_file(self):
        self.assertEqual(validators.complaints(DEPLOY), [])

    def test_the_stack_of_compose_is_one_and_a_mistake_in_it_is_complained_of(self):
        self.assertEqual(validators.of_compose(STACK), [])
        with tempfile.TemporaryDirectory() as folder:
            planted = Path(folder) / "compose.yaml"
            planted.write_text(STACK.read_text().replace("depends_on:", "depends:", 1))
            self.assertIn("depends", "\n".join(validators.of_compose(planted)))


if __name__ == "__main__":
    unittest.main()
