"""Run by a room's Python: what this gunicorn release itself makes of arguments, environment and config file.

In: JSON on stdin, a list of `{"arguments": [...], "environment": {...}, "file": "..."}`. Out: JSON on stdout, per case
the settings by their contract names, or `{"refused": "..."}`. Rule: each case in a process of its own that loads the
application's configuration as `gunicorn` does (`WSGIApplication.__init__`), without starting a server.
"""

import importlib
import io
import json
import os
import sys
import tempfile
import warnings
from contextlib import redirect_stderr
from typing import Any

warnings.simplefilter("ignore")  # 20.1.0 imports pkg_resources, which warns of its own end


def main() -> None:
    """Answer every case."""
    sys.dont_write_bytecode = True  # or the next case would get this one's compiled config file
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # before the import: gunicorn.config keeps the folder that it was imported in
        importlib.import_module("gunicorn.app.wsgiapp")  # once, before the forks: it takes longer than a case
        answers = [_in_child(case) for case in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


def _in_child(case: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(_ask(case)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(text) if text else {"refused": "died"}
    return answer


def _ask(case: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(case["environment"])
    if "WEB_CONCURRENCY" in case["environment"]:  # read when gunicorn.config is imported
        for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
            del sys.modules[name]
    sys.argv = ["gunicorn", *case["arguments"]]
    said = io.StringIO()
    with open("gunicorn.conf.py", "w", encoding="utf-8") as file:
        file.write(case["file"])
    with redirect_stderr(said):
        try:
            application = importlib.import_module("gunicorn.app.wsgiapp")
            cfg = application.WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]").cfg
        except (SystemExit, ValueError) as error:
            return {"refused": said.getvalue().strip()[-300:] or repr(error)}
    return {
        "workers": cfg.workers,
        "threads": cfg.threads,
        "timeout_s": cfg.timeout,
        "graceful_timeout_s": cfg.graceful_timeout,
        "keepalive_s": cfg.keepalive,
        "worker_connections": cfg.worker_connections,
        "worker_class": cfg.worker_class_str,
        "max_requests": cfg.max_requests,
        "max_requests_jitter": cfg.max_requests_jitter,
        "backlog": cfg.backlog,
        "preload_app": cfg.preload_app,
    }


if __name__ == "__main__":
    main()
