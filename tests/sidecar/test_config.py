import re
from pathlib import Path

import pytest

from wsgi_contract import names
from wsgi_contract.report import PodIdentity
from wsgi_sidecar.config import Config, ConfigError, parse_config


def parsed(*arguments: str, **environment: str) -> Config:
    return parse_config(arguments, environment)


def test_defaults_are_for_a_person_on_a_machine() -> None:
    config = parsed("watch")
    assert config == Config(
        command="watch", server=(), pid=None, host="127.0.0.1", port=names.SIDECAR_PORT, scan_interval_s=1.0,
        log_format="text", policy_file=None, dry_run=False, pod=None,
    )  # fmt: skip


def test_in_kubernetes_the_port_is_open_to_the_cluster_and_the_pod_is_known() -> None:
    config = parsed("watch", KUBERNETES_SERVICE_HOST="10.0.0.1", POD_NAMESPACE="shop", POD_NAME="web-1", POD_UID="u")
    assert config.host == ""
    assert config.pod == PodIdentity(namespace="shop", name="web-1", uid="u")


def test_all_behind_the_dashes_is_the_servers() -> None:
    config = parsed("run", "--port", "0", "--", "gunicorn", "--port", "x", "--", "app:app")
    assert config.server == ("gunicorn", "--port", "x", "--", "app:app")
    assert config.port == 0


def test_a_flag_beats_the_environment_and_the_environment_the_default() -> None:
    said = {
        names.ENV_PORT: "9999", names.ENV_SCAN_INTERVAL: "2.5", names.ENV_LOG_FORMAT: "json",
        names.ENV_POLICY_FILE: "/etc/podinfo/policy",
    }  # fmt: skip
    config = parsed("watch", **said)
    assert (config.port, config.scan_interval_s, config.log_format) == (9999, 2.5, "json")
    assert config.policy_file == Path("/etc/podinfo/policy")
    config = parsed("watch", "--port=1", "--scan-interval", "0.1", "--log-format", "text", **said)
    assert (config.port, config.scan_interval_s, config.log_format) == (1, 0.1, "text")


def test_an_empty_variable_says_nothing() -> None:
    assert parsed("watch", WSGI_SIDECAR_PORT="", WSGI_SIDECAR_POLICY_FILE="").port == names.SIDECAR_PORT


def test_the_container_is_what_the_operator_says_and_only_for_a_server_that_somebody_else_started() -> None:
    assert parsed("watch", WSGI_SIDECAR_SERVER_CONTAINER="web").container == "web"
    assert parsed("watch", "--container", "shop", WSGI_SIDECAR_SERVER_CONTAINER="web").container == "shop"
    assert parsed("watch").container is None
    assert parsed("run", "--", "gunicorn", WSGI_SIDECAR_SERVER_CONTAINER="web").container is None


def test_dry_run_and_pid() -> None:
    config = parsed("watch", "--pid", "4242", "--dry-run", "--host", "::1")
    assert (config.pid, config.dry_run, config.host) == (4242, True, "::1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "required: run|watch"),
        (("start",), "'start'"),
        (("run",), "needs the server's command behind --"),
        (("run", "gunicorn", "app:app"), "gunicorn"),
        (("run", "--"), "needs the server's command behind --"),
        (("watch", "--", "gunicorn"), "wsgi-sidecar run -- gunicorn"),
        (("watch", "--port", "http"), "--port is 'http'; it may be a whole number from 0 to 65535"),
        (("watch", "--port", "65536"), "--port is '65536'; it may be a whole number from 0 to 65535"),
        (("watch", "--port", "-1"), "--port is '-1'; it may be a whole number from 0 to 65535"),
        (("watch", "--port", ""), "--port is ''; it may be a whole number from 0 to 65535"),
        (("watch", "--port"), "--port"),
        (("watch", "--termination-grace", "-1"), "--termination-grace is '-1'; it may be a number from 0 to 86400"),
        (("watch", "--scan-interval", "0"), "--scan-interval is '0'; it may be a number from 0.1 to 60"),
        (("watch", "--scan-interval", "nan"), "--scan-interval is 'nan'; it may be a number from 0.1 to 60"),
        (("watch", "--scan-interval", "inf"), "--scan-interval is 'inf'; it may be a number from 0.1 to 60"),
        (("watch", "--log-format", "xml"), "--log-format is 'xml'; it may be text or json"),
        (("watch", "--pid", "0"), "--pid is '0'; it may be a whole number from 1 to 4194304"),
        (("run", "--pid", "1", "--", "x"), "--pid"),
        (("watch", "--por", "1"), "--por"),
    ],
)
def test_a_bad_value_is_told_in_a_sentence_that_says_what_it_may_be(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parsed(*arguments)


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"WSGI_SIDECAR_PORT is 'tcp://10\.0\.0\.1:80'; it may be a whole number"):
        parsed("watch", WSGI_SIDECAR_PORT="tcp://10.0.0.1:80")


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("watch", "--help"), ("--version",)])
def test_help_and_version_answer_and_end_well(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 0
    assert "wsgi-sidecar" in capsys.readouterr().out
