"""Orders to change settings in place: read, refused, and said back; and the config file that makes them possible."""

import pytest

from wsgi_contract.in_place import InPlaceOrder, OrderError, dump_order, parse_order
from wsgi_contract.servers.gunicorn import Sources, effective_settings
from wsgi_contract.servers.gunicorn_in_place import Boot, owners_cmd_args, parse_boot, point_config, render_boot
from wsgi_contract.settings import Wanted

ORDER = InPlaceOrder(id="shop.7-a", settings=Wanted(workers=4, timeout_s=60), within_s=30.0)
PATH = "/etc/wsgi-sidecar/gunicorn.conf.py"


@pytest.mark.parametrize("order", [ORDER, InPlaceOrder(id="x", settings=Wanted())])
def test_an_order_is_read_as_it_was_written(order: InPlaceOrder) -> None:
    assert parse_order(dump_order(order)) == order


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "may be an object"),
        ('{"id": "a"}', "may be an object"),
        ('{"id": "a", "settings": {}, "more": 1}', "may be an object"),
        ('{"id": "../a", "settings": {}}', "letters, digits"),
        ('{"id": 1, "settings": {}}', "letters, digits"),
        ('{"id": "a", "settings": []}', "may be an object"),
        ('{"id": "a", "settings": {"worker_class": "gthread"}}', "no setting 'worker_class'"),
        ('{"id": "a", "settings": {"workers": 0}}', "from 1 to 512"),
        ('{"id": "a", "settings": {"workers": true}}', "whole number"),
        ('{"id": "a", "settings": {"workers": "4; import os"}}', "whole number"),
        ('{"id": "a", "settings": {}, "within_s": 1}', "from 5 to 3600"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_order_says_what_it_may_be(text: str, words: str) -> None:
    with pytest.raises(OrderError, match=words):
        parse_order(text)


BOOT = Boot(live="/run/wsgi-sidecar/in-place.json", settings=Wanted(workers=3, threads=2))


def test_the_config_file_can_be_read_without_being_executed() -> None:
    assert parse_boot(render_boot(BOOT)) == BOOT
    compile(render_boot(BOOT), "gunicorn.conf.py", "exec")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "workers = 2\n",
        render_boot(BOOT).replace("_load()", "_load() # mine"),
        render_boot(BOOT).replace("3", '"3"'),
    ],
)
def test_a_file_that_is_not_to_the_letter_ours_is_not_ours(text: str) -> None:
    assert parse_boot(text) is None


@pytest.mark.parametrize(
    ("owners", "pointed"),
    [
        ("", f"--config={PATH}"),
        ("-w 2 -c own.py", f"-w 2 -c own.py --config={PATH}"),
        (f"-w 2 --config={PATH}", f"-w 2 --config={PATH}"),
    ],
)
def test_ours_stands_behind_the_owners_words_once(owners: str, pointed: str) -> None:
    assert point_config(owners, PATH) == pointed
    assert owners_cmd_args(pointed, PATH) == owners.removesuffix(f" --config={PATH}")


def test_what_is_ordered_in_place_beats_the_owners_file_and_nothing_else() -> None:
    sources = Sources(
        command_line=("--threads", "8", "app:app"),
        cmd_args="--timeout 20",
        web_concurrency="9",
        config_file="workers = 2\nthreads = 2\nkeepalive = 7\n",
        in_place=Wanted(workers=4, threads=3, timeout_s=60),
    )
    told = {each.name: (each.value, each.source) for each in effective_settings(sources)}
    assert told["workers"] == (4, "in-place")
    assert told["threads"] == (8, "command-line")
    assert told["timeout_s"] == (20, "environment")
    assert told["keepalive_s"] == (7, "config-file")
