"""What the operator finds in its own annotations may have been written by anybody."""

import pytest

from wsgi_contract.names import ANNOTATION_ORIGINAL
from wsgi_operator.core.record import ANNOTATION_APPLIED, original_of, record_of


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", "null", '{"learnt": 5}', '{"cmd_args": []}', "[" * 3000])
def test_an_annotation_that_is_not_ours_is_none(text: str) -> None:
    deployment = {"metadata": {"annotations": {ANNOTATION_APPLIED: text, ANNOTATION_ORIGINAL: text}}}
    assert (record_of(deployment), original_of(deployment)) == (None, None)
