"""What a store compresses: how pushed gradients are packed, and how pulled values are, if at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from akv.compression.codec import Compression
from akv.compression.spec import from_spec
from akv.errors import InvalidArgument
from akv.values.dtypes import DType

__all__ = ["Scheme"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The codecs of a store: an immutable description, equal to another one of the same words and numbers.

    Attributes:
        push: for gradients, with error feedback at the sender.
        pull: for values on their way back over a network, without; None where they travel as they are.
    """

    push: Compression
    pull: Compression | None = None

    @classmethod
    def of(cls, spec: Mapping[str, object]) -> Scheme:
        """What `{"type": "2bit", "threshold": 0.5, "pull": "fp16"}` says; `pull` is the type of a codec, or absent.

        Raises InvalidArgument as `from_spec` does, and for a `pull` that needs error feedback. Safe with what a client
        sent.
        """
        if not isinstance(cast(Any, spec), Mapping):
            return cls(from_spec(spec))  # which says what is wrong
        words = dict(spec)
        pull = words.pop("pull", None)
        return cls(from_spec(words), None if pull is None else _for_pulls(pull))

    def prepare(self, dtype: DType) -> None:
        """Compile ahead what values of this dtype need; see `Compression.prepare`."""
        for codec in (self.push, self.pull):
            if codec is not None:
                codec.prepare(dtype)

    def to_spec(self) -> dict[str, Any]:
        """The description as plain words and numbers; `of` takes it back."""
        return self.push.to_spec() | ({} if self.pull is None else {"pull": self.pull.name})

    def __str__(self) -> str:
        return repr(self.to_spec())


def _for_pulls(name: object) -> Compression:
    codec = from_spec({"type": name})
    if codec.needs_residual:
        raise InvalidArgument(f"{codec.name} compression needs error feedback; pull takes bf16, fp16 or int8")
    return codec
