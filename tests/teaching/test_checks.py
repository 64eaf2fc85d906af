"""What every check of an exercise does."""

import pytest

from steerlib.teaching import checks


def stub(*args):
    raise NotImplementedError


def dots(*args):
    return ...


def hook_stub(*args):
    return stub


@pytest.mark.parametrize("name", checks.__all__)
def test_a_stub_is_told_that_it_is_one(name):
    for fn in (stub, dots, *([hook_stub] if name == "test_make_hook" else [])):
        with pytest.raises(AssertionError, match=r"stub|ellipsis"):
            getattr(checks, name)(fn)
