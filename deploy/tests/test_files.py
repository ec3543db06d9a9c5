"""Every deployment file is as its platform wants it, as far as tools can tell."""

import unittest

import validators
from documents import DEPLOY


class Files(unittest.TestCase):
    maxDiff = None

    def test_no_tool_complains_of_any_file(self):
        self.assertEqual(validators.complaints(DEPLOY), [])


if __name__ == "__main__":
    unittest.main()
