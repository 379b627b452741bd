"""Parts of a container as Kubernetes knows them, as far as the resource takes them.

In: nothing. Out: `EnvVar`, `EnvFromSource`, `ResourcesSpec`. Rule: the same names and shapes as in a pod, so that what
stands in a Deployment can be moved here by copying.
"""

from pydantic import Field

from wsgi_operator.resource.part import Part, ruled
from wsgi_operator.schema import Rule

_ENV_NAME = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"


class KeyReference(Part):
    """One key of a ConfigMap or Secret in the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the ConfigMap or Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in it.")
    optional: bool | None = Field(default=None, description="Whether the pod starts where it is missing.")


class FieldReference(Part):
    """One field of the pod itself."""

    api_version: str | None = Field(default=None, description="Version of the path. Default: v1.")
    field_path: str = Field(min_length=1, max_length=512, description="Path, such as metadata.name or status.podIP.")


class EnvSource(Part):
    """Where the value of an environment variable comes from; exactly one of these."""

    model_config = ruled(
        Rule(
            rule="(has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) + "
            "(has(self.fieldRef) ? 1 : 0) == 1",
            message="valueFrom takes exactly one of configMapKeyRef, secretKeyRef and fieldRef: remove the others, "
            "or name one",
        )
    )

    config_map_key_ref: KeyReference | None = Field(default=None, description="A key of a ConfigMap.")
    secret_key_ref: KeyReference | None = Field(default=None, description="A key of a Secret.")
    field_ref: FieldReference | None = Field(default=None, description="A field of the pod.")


class EnvVar(Part):
    """One environment variable."""

    model_config = ruled(
        Rule(
            rule="!(has(self.value) && has(self.valueFrom))",
            message="a variable has either value or valueFrom: remove one of the two",
        )
    )

    name: str = Field(min_length=1, max_length=253, pattern=_ENV_NAME, description="Its name.")
    value: str | None = Field(default=None, max_length=32768, description="Its value; $(NAME) of earlier ones works.")
    value_from: EnvSource | None = Field(default=None, description="Where its value comes from.")


class SourceReference(Part):
    """A whole ConfigMap or Secret."""

    name: str = Field(min_length=1, max_length=253, description="Its name.")
    optional: bool | None = Field(default=None, description="Whether the pod starts where it is missing.")


class EnvFromSource(Part):
    """All keys of a ConfigMap or Secret as variables; exactly one of the two."""

    model_config = ruled(
        Rule(
            rule="has(self.configMapRef) != has(self.secretRef)",
            message="an entry of envFrom takes exactly one of configMapRef and secretRef: make two entries of it",
        )
    )

    prefix: str | None = Field(default=None, max_length=128, description="Put in front of each name.")
    config_map_ref: SourceReference | None = Field(default=None, description="A ConfigMap.")
    secret_ref: SourceReference | None = Field(default=None, description="A Secret.")


class ResourcesSpec(Part):
    """Requests and limits of a container, as in any container."""

    requests: dict[str, str | int] | None = Field(
        default=None, description="What the scheduler reserves, by resource name."
    )
    limits: dict[str, str | int] | None = Field(default=None, description="What it may use at most, by resource name.")

    def as_text(self) -> dict[str, dict[str, str]]:
        """As Kubernetes writes it; amounts given as numbers become text."""
        given = self.model_dump(exclude_none=True)
        return {kind: {name: str(amount) for name, amount in amounts.items()} for kind, amounts in given.items()}
