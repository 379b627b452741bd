"""Pointing gunicorn's statsd elsewhere, by its own variable."""

import pytest

from wsgi_contract.servers.gunicorn_statsd import point_statsd, statsd_host
from wsgi_contract.servers.gunicorn_values import ArgumentsError

OURS = "127.0.0.1:9125"


@pytest.mark.parametrize(
    ("existing", "pointed", "theirs"),
    [
        ("", f"--statsd-host={OURS}", None),
        ("-w 3", f"-w 3 --statsd-host={OURS}", None),
        ("--statsd-host=agent:8125 -w 3", f"--statsd-host=agent:8125 -w 3 --statsd-host={OURS}", "agent:8125"),
        ("--statsd-host agent:8125", f"--statsd-host agent:8125 --statsd-host={OURS}", "agent:8125"),
        (f"--statsd-host={OURS}", f"--statsd-host={OURS}", None),
    ],
)
def test_our_address_stands_last_and_theirs_is_known(existing: str, pointed: str, theirs: str | None) -> None:
    made = point_statsd(existing, OURS)
    assert (made.cmd_args, made.theirs) == (pointed, theirs)
    assert statsd_host(made.cmd_args) == OURS


def test_words_that_no_shell_could_split_are_refused() -> None:
    with pytest.raises(ArgumentsError, match="quot"):
        point_statsd("--name 'half", OURS)
