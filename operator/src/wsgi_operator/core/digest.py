"""A short name for content.

In: plain objects. Out: a text. Rule: equal content has the same name, whatever its order; it is no secret and no proof.
"""

import hashlib
import json
from typing import Any


def digest(content: Any) -> str:
    """The name of exactly this content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
