"""`python sample.py --video in.mp4`: one video in, a grid of views × frames out. The same as `viewtime sample`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Run by path, this folder is first on sys.path; by `accelerate launch` it may not be there at all.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from viewtime.cli import run_command  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(run_command("sample", sys.argv[1:], prog="sample.py"))
