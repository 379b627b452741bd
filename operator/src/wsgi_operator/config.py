"""The operator's own configuration, from its environment.

In: environment variables. Out: `Config`. Rule: a value that cannot be used is refused at the start with the variable's
name and what it may be; nothing is guessed later.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from wsgi_contract import names
from wsgi_operator.core.image import repository
from wsgi_operator.core.server import PullPolicy, Sidecar

LogFormat = Literal["json", "text"]

PREFIX: Final = "WSGI_OPERATOR_"
_PULL_POLICIES: Final = ("IfNotPresent", "Always", "Never")
_LEVELS: Final = ("debug", "info", "warning", "error")


class ConfigError(ValueError):
    """A variable that cannot be used; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How this operator runs.

    Attributes:
        sidecar: what it injects where a WSGIServer says nothing else.
        repositories: of the images that a WSGIServer may name for its sidecar.
        namespaces: those it watches; empty: all.
        report_interval_s: seconds between two looks at one workload's pods.
        report_timeout_s: seconds that one pod has for its answer.
        rolls_at_once: how many workloads are rolled at a time.
        admission: whether the chart's MutatingAdmissionPolicy gives pods their settings at creation.
        lease: name of the Lease of the one that works, where several operators run; empty: there is but one.
        pod_namespace: our own, where the Lease is.
        pod_name: our own, told as the Lease's holder.
        report_keys: folder with the keys from which the tokens for reports are made; None: there are none.
        report_auth: whether new pods shall ask for a token.
        port: of `/livez`, `/readyz` and `/metrics`; 0: none.
        log_format: of its own log.
        log_level: likewise.
    """

    sidecar: Sidecar
    repositories: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    report_interval_s: float = 10.0
    report_timeout_s: float = 3.0
    rolls_at_once: int = 5
    admission: bool = False
    lease: str = ""
    pod_namespace: str = ""
    pod_name: str = ""
    report_keys: Path | None = None
    report_auth: bool = False
    port: int = 8080
    log_format: LogFormat = "json"
    log_level: str = "info"


def read_config(environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: a variable is missing or cannot be used.
    """
    lease, pod_namespace = environ.get(f"{PREFIX}LEASE", "").strip(), environ.get(names.ENV_POD_NAMESPACE, "").strip()
    if lease and not pod_namespace:
        raise ConfigError(
            f"{PREFIX}LEASE is set, and {names.ENV_POD_NAMESPACE}, where that Lease is, is not: set it to the "
            "operator's own namespace"
        )
    keys, auth = environ.get(f"{PREFIX}REPORT_KEYS", "").strip(), _one_of(environ, "REPORT_AUTH", ("none", "token"))
    if auth == "token" and not keys:
        raise ConfigError(
            f"{PREFIX}REPORT_AUTH is token, and {PREFIX}REPORT_KEYS, the folder with the keys, is not set"
        )
    return Config(
        report_keys=Path(keys) if keys else None,
        report_auth=auth == "token",
        lease=lease,
        pod_namespace=pod_namespace,
        pod_name=environ.get(names.ENV_POD_NAME, "").strip(),
        sidecar=Sidecar(
            image=_image(environ),
            pull_policy=cast(
                "PullPolicy", _one_of(environ, "SIDECAR_PULL_POLICY", ("IfNotPresent", "Always", "Never"))
            ),
        ),
        repositories=_repositories(environ),
        namespaces=_namespaces(environ),
        report_interval_s=_number(environ, "REPORT_INTERVAL_SECONDS", 10.0, 0.5, 3600.0),
        report_timeout_s=_number(environ, "REPORT_TIMEOUT_SECONDS", 3.0, 0.1, 60.0),
        rolls_at_once=int(_number(environ, "ROLLS_AT_ONCE", 5, 1, 1000)),
        admission=_one_of(environ, "ADMISSION", ("false", "true")) == "true",
        port=int(_number(environ, "PORT", 8080, 0, 65535)),
        log_format=cast("LogFormat", _one_of(environ, "LOG_FORMAT", ("json", "text"))),
        log_level=_one_of(environ, "LOG_LEVEL", ("info", *_LEVELS)),
    )


def _image(environ: Mapping[str, str]) -> str:
    name = f"{PREFIX}SIDECAR_IMAGE"
    image = environ.get(name, "").strip()
    if not image:
        raise ConfigError(f"{name} is not set: give the sidecar's image, for example registry/wsgi-sidecar:0.1.0")
    versioned = "@sha256:" in image or (re.fullmatch(r".+:[^:/]+", image) and not image.endswith(":latest"))
    if not versioned:
        raise ConfigError(
            f"{name} is {image!r}: give it a version, as name:tag or name@sha256:digest, and not the tag latest"
        )
    return image


def _repositories(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The installed sidecar's own, and those that are named beside it."""
    more = environ.get(f"{PREFIX}SIDECAR_REPOSITORIES", "").split(",")
    return tuple(dict.fromkeys((repository(_image(environ)), *(part.strip() for part in more if part.strip()))))


def _namespaces(environ: Mapping[str, str]) -> tuple[str, ...]:
    name = f"{PREFIX}NAMESPACES"
    namespaces = tuple(dict.fromkeys(part.strip() for part in environ.get(name, "").split(",") if part.strip()))
    for namespace in namespaces:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
            raise ConfigError(f"{name} holds {namespace!r}, which is no namespace: separate names by commas")
    return namespaces


def _one_of(environ: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    """The value, or the first of the allowed ones if it is not set."""
    value = environ.get(f"{PREFIX}{key}") or allowed[0]
    if value not in allowed:
        raise ConfigError(f"{PREFIX}{key} is {value!r}; it may be {', '.join(dict.fromkeys(allowed))}")
    return value


def _number(environ: Mapping[str, str], key: str, default: float, low: float, high: float) -> float:
    text = environ.get(f"{PREFIX}{key}") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"{PREFIX}{key} is {text!r}; it may be a number from {low:g} to {high:g}")
    return value
