"""`python -m viewtime`."""

from viewtime.cli import main

raise SystemExit(main())
