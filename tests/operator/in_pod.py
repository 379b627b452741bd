"""The operator as it starts in a pod, where a token and a certificate lie in files: here in a folder of the test's.

In: SERVICE_ACCOUNT, the folder; KUBERNETES_SERVICE_HOST and _PORT. Out: the operator's own. Rule: where the client
library looks for these files is all that is changed.
"""

import os
import sys
from pathlib import Path

import kubernetes.aio.config.incluster_config as asynchronous
import kubernetes.config.incluster_config as blocking

from wsgi_operator.__main__ import main

FOLDER = Path(os.environ["SERVICE_ACCOUNT"])

for library in (asynchronous, blocking):
    vars(library).update(SERVICE_TOKEN_FILENAME=str(FOLDER / "token"), SERVICE_CERT_FILENAME=str(FOLDER / "ca.crt"))

if __name__ == "__main__":
    sys.exit(main())
