#!/usr/bin/env bash
# Make .venv with everything at the versions of constraints.txt; do nothing when it is already so.
# usage: tools/setup.sh [EXTRAS]   e.g. tools/setup.sh all,dev
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-}
stamp=".venv/.installed-${extras:-core}-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
[ -f "$stamp" ] && exit 0
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
if [ ! -x .venv/bin/python ]; then
    "$python" - <<'PY'
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(f"viewtime needs Python 3.11 or 3.12, this is {sys.version.split()[0]}: set PYTHON=/path/to/python3.11")
PY
    "$python" -m venv .venv
fi
package=viewtime${extras:+[$extras]}
echo "installing $package into .venv (once)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".${package#viewtime}"
touch "$stamp"
