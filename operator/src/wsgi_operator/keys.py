"""The folder with the keys for reports: a Secret that the kubelet mounts, so that nobody needs a right on Secrets.

In: a folder with `current` and maybe `previous`. Out: `Keyring`. Rule: read again before each round, since the kubelet
writes a changed Secret into the folder; what cannot be used keeps the last good keys and is told once.
"""

import logging
from pathlib import Path

from wsgi_operator.core.keyring import Keyring, KeyringError, keyring

log = logging.getLogger("wsgi_operator")


class KeyFolder:
    """Follows one folder of keys."""

    def __init__(self, path: Path | None, *, guards: bool) -> None:
        """Read the keys.

        Args:
            path: the folder; None: there are no keys, and no pod is guarded.
            guards: whether new pods shall ask for a token.

        Raises:
            KeyringError: they cannot be used.
        """
        self._path = path
        self._guards = guards
        self._told = ""
        self._ring = self._fresh() if path is not None else Keyring()

    def read(self) -> Keyring:
        """The keys now."""
        if self._path is None:
            return self._ring
        try:
            self._ring, self._told = self._fresh(), ""
        except KeyringError as error:
            if str(error) != self._told:
                log.error("%s; the last good keys hold", error, extra={"event": "report-keys"})
            self._told = str(error)
        return self._ring

    def _fresh(self) -> Keyring:
        try:
            return keyring(self._bytes("current"), self._bytes("previous"), guards=self._guards)
        except (OSError, KeyringError) as error:
            raise KeyringError(f"the report keys in {self._path} cannot be used: {error}") from None

    def _bytes(self, name: str) -> bytes | None:
        path = (self._path or Path()) / name
        return path.read_bytes() if path.exists() else None
