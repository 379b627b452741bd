"""A report may say how large a server is, and not what code it runs: whoever took over the app writes the report."""

import pytest

from wsgi_operator.core.conditions import verdicts
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.hearsay import not_taken
from wsgi_operator.core.patch import plan
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.seen import look_at
from wsgi_operator.testing import container, deployment, gunicorn, heard, report, server


@pytest.mark.parametrize(
    "told",
    [
        "",
        "--bind=0.0.0.0:8000",
        "--bind 0.0.0.0:8000 --workers 3 --threads=4 -t 60 -w4 -kgthread",
        "-b [::]:8000 -b :8001 --access-logfile - --error-logfile=- --log-level debug",
        "--preload --capture-output --max-requests 1000 --max-requests-jitter 100 --worker-tmp-dir /dev/shm",
        "-k uvicorn.workers.UvicornWorker -n shop",
    ],
)
def test_size_patience_and_address_are_taken(told):
    assert not_taken(told) is None


@pytest.mark.parametrize(
    ("told", "flag"),
    [
        ("-w 2 --config /tmp/evil.py", "--config"),
        ("-c python:evil", "-c"),
        ("-cpython:evil", "-cpython:evil"),
        ("--conf=/tmp/evil.py", "--conf=/tmp/evil.py"),
        ("--pythonpath=/tmp", "--pythonpath=/tmp"),
        ("--chdir /tmp", "--chdir"),
        ("--env LD_PRELOAD=/tmp/x.so", "--env"),
        ("-e A=b", "-e"),
        ("--worker-class evil.Worker", "--worker-class evil.Worker"),
        ("-k evil.Worker", "--worker-class evil.Worker"),
        ("--logger-class=evil.Logger", "--logger-class=evil.Logger"),
        ("--access-logfile /data/x", "--access-logfile /data/x"),
        ("--worker-tmp-dir=/data", "--worker-tmp-dir /data"),
        ("--pid /data/x", "--pid"),
        ("--forwarded-allow-ips=*", "--forwarded-allow-ips=*"),
        ("--user 0", "--user"),
        ("--bind unix:/data/x", "--bind unix:/data/x"),
        ("--bind fd://3", "--bind fd://3"),
        ("-Dw4", "-Dw4"),
        ("--workers=2;id", "--workers 2;id"),
        ("--workers=٣", "--workers ٣"),
        ("--workers", "--workers"),
        ("--preload=x", "--preload=x"),
        ("evil:app", "evil:app"),
        ("-- evil:app", "--"),
        ("$(EVIL)", "$(EVIL)"),
        ("'", "'"),
    ],
)
def test_code_files_users_and_trust_are_not(told, flag):
    assert not_taken(told) == flag


def told_by(cmd_args):
    return report(server=gunicorn(cmd_args=cmd_args))


def test_a_lying_pod_puts_no_code_into_the_template_and_the_owner_is_told_what_to_write():
    lie = told_by("--bind=0.0.0.0:8000 --config=/tmp/evil.py")
    live = deployment(container())
    made = plan(server(), live, seen=look_at([lie]))
    assert made.pending
    assert "evil" not in str(made.config)
    evidence = gather([heard(of=lie)], server().wanted)
    facts = Facts(generation=1, pending=True, evidence=evidence, rollout=rollout(live))
    stalled = next(v for v in verdicts(server(), facts) if v.type == "Stalled")
    assert (stalled.status, stalled.reason) == (True, "CmdArgsNotTaken")
    assert "--config=/tmp/evil.py is not taken from a report" in stalled.message
    assert "write GUNICORN_CMD_ARGS into the container's env" in stalled.message


def test_what_an_honest_image_says_of_its_size_is_kept():
    made = plan(server(), deployment(container()), seen=look_at([told_by("--bind=0.0.0.0:8000")]))
    assert "--bind=0.0.0.0:8000 --workers=3" in str(made.config)
