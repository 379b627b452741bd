"""Answers after 20 ms, as if it asked a database; `/slow` after 2 s, as a report does. Starts in half a second."""

import time

time.sleep(0.5)


def app(environ, start_response):
    time.sleep(2.0 if environ["PATH_INFO"] == "/slow" else 0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
