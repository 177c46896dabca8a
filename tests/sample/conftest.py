"""Small models that the tests of every room share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
