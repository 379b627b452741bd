"""An ordinary shop: it knows nothing of wsgi-operator, Kubernetes or gunicorn."""

import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def shelf() -> str:
    """The page that everybody asks for; the pause stands for a query to a database."""
    time.sleep(0.02)
    return "three apples, two pears\n"


@app.get("/healthz")
def healthz() -> str:
    """Answered like any other request, by a worker."""
    return "ok\n"
