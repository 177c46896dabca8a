"""A GL renderer for the modules that draw, of the size that each names `SIZE`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from viewtime.errors import UserError
from viewtime.render_objaverse.gl import GLRenderer


@pytest.fixture(scope="module")
def renderer(request: pytest.FixtureRequest) -> Iterator[GLRenderer]:
    try:
        made = GLRenderer(request.module.SIZE)
    except UserError as error:
        pytest.skip(str(error))
    yield made
    made.close()
