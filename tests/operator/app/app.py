"""Answers everything, and does not start with thirteen workers."""

import os

if "--workers=13" in os.environ.get("GUNICORN_CMD_ARGS", ""):
    raise RuntimeError("thirteen is an unlucky number")


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
