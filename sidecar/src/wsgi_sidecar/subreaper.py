"""Whether what our descendants leave behind comes to us.

In: the kernel's flag on this process. Out: the same. Rule: asked of the kernel, never remembered.
"""

import ctypes
import os
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37


def adopt_orphans() -> bool:
    """Become the parent of whatever our descendants leave behind; whether the kernel agreed."""
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def adopts_orphans() -> bool:
    """Whether we are the parent of what our descendants leave behind: as a subreaper, or as init."""
    flag = ctypes.c_int(0)
    answered = ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0) == 0
    return os.getpid() == 1 or bool(answered and flag.value)
