"""Whether an apply would change anything."""

import pytest

from wsgi_operator.core.cover import covers, quantity, stray


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"b": 2}, {"a": 1}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
        ({"l": [{"name": "x", "v": 1}, {"name": "y"}]}, {"l": [{"name": "y"}, {"name": "x", "v": 1}]}, True),
        ({"l": [{"name": "x"}]}, {"l": [{"name": "y"}]}, False),
        ({"l": ["a", "b"]}, {"l": ["a"]}, False),
        ({"l": [{"p": 1, "more": 2}]}, {"l": [{"p": 1}]}, True),
        ({"l": None}, {"l": []}, False),
        ({"resources": {"limits": {"cpu": "500m"}}}, {"resources": {"limits": {"cpu": "0.5"}}}, True),
        ({"resources": {"limits": {"memory": "1Gi"}}}, {"resources": {"limits": {"memory": "1024Mi"}}}, True),
        ({"resources": {"limits": {"cpu": "500m"}}}, {"resources": {"limits": {"cpu": "0.6"}}}, False),
        ({"value": "1"}, {"value": "1000m"}, False),
    ],
)
def test_a_live_object_covers_what_it_holds_already(live, wanted, same):
    assert covers(live, wanted) is same


@pytest.mark.parametrize(
    ("live", "wanted", "path"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, None),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
        ({"a": {}}, {"a": {"b": 2}}, "a.b"),
        ({"l": [{"name": "x", "v": 1}, {"name": "y"}]}, {"l": [{"name": "y"}, {"name": "x", "v": 2}]}, "l[x].v"),
        ({"l": [{"name": "x"}]}, {"l": [{"name": "y"}]}, "l"),
        ({"l": ["a", "b"]}, {"l": ["a"]}, "l"),
        ({"l": "a"}, {"l": ["a"]}, "l"),
        ({"resources": {"limits": {"cpu": "500m"}}}, {"resources": {"limits": {"cpu": "0.5"}}}, None),
        ({"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "0.5"}}}, "resources.limits.cpu"),
    ],
)
def test_where_it_does_not_is_told_by_its_path(live, wanted, path):
    assert stray(live, wanted) == path


@pytest.mark.parametrize("text", ["", "x", "1X", "Mi", "--1", "1 Gi 2", "sNaN", "Infinity", "1e999999999"])
def test_what_is_no_amount_is_none(text):
    assert quantity(text) is None
