"""The keys from which the tokens for reports are made, and which of them opens which pod.

In: keys; a WSGIServer's uid; the verifiers that a pod was made with. Out: the verifier for new pods; the pod with its
token, or with the reason why it cannot be asked. Rule: new pods get the current key's verifier alone; a pod that was
made under the previous key is asked with that one. So a change of keys silences nobody, and rolls each workload once.
"""

from dataclasses import dataclass, field, replace

from wsgi_contract.report_token import KEY_BYTES, token_of, verifier_of
from wsgi_operator.core.evidence import Pod

STRANGE = (
    "its report asks for a token of a key that this operator does not have: give the old key back as `previous` in the "
    "Secret of the report keys, or restart the pod"
)


class KeyringError(ValueError):
    """The keys cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys.

    Attributes:
        keys: the current one first, then the previous one, if there is any; empty: no pod can be asked for a guarded
            report.
        guards: whether new pods shall ask for a token.
    """

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    guards: bool = False

    def verifier(self, server_uid: str) -> str | None:
        """What new pods of this WSGIServer shall know; None: they answer anybody."""
        return verifier_of(token_of(self.keys[0], server_uid)) if self.guards else None

    def equip(self, pod: Pod, server_uid: str) -> Pod:
        """The pod with the token that opens its report, or with the reason why none of ours does."""
        if pod.waiting is not None or not pod.verifiers:
            return pod
        tokens = (token_of(key, server_uid) for key in self.keys)
        token = next((token for token in tokens if verifier_of(token) in pod.verifiers), None)
        return replace(pod, waiting=STRANGE) if token is None else replace(pod, token=token)


def keyring(current: bytes | None, previous: bytes | None, *, guards: bool) -> Keyring:
    """Make a keyring of what stands in the Secret.

    Raises:
        KeyringError: there is no current key, or one is too short.
    """
    if not (current or b"").strip():
        raise KeyringError("there is no `current` key: write at least 32 random bytes there")
    keys = tuple(key.strip() for key in (current, previous) if key and key.strip())
    if any(len(key) < KEY_BYTES for key in keys):
        raise KeyringError(f"a key has less than {KEY_BYTES} bytes: write at least that many random ones")
    return Keyring(keys=keys, guards=guards)
