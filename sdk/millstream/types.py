"""How values travel, and how to teach Millstream a class of your own.

```python
class Money:
    def __init__(self, amount: int, unit: str) -> None: ...

class MoneyCodec:
    name = "acme.Money"  # in the log: never change it
    cls = Money

    def encode(self, value: Money, site: types.Site) -> object:
        return {"amount": value.amount, "unit": value.unit}

    def decode(self, record: dict, site: types.Site) -> Money:
        return Money(**record)

millstream.types.register(MoneyCodec())
```

Register where the class is defined, so that a worker that imports it can read it; or name the
codec in an entry point of the group `millstream.codecs`.

Flyte's own way works too: `TypeEngine.register(transformer)` with a subclass of
`TypeTransformer`. Its `to_literal` may return any plain value; protobuf is not needed.
"""

from typing import Any

from millstream._absent import refusal
from millstream._types_flyte import FlytePickle, Renderable, TypeEngine, TypeTransformer
from millstream._values_codecs import ENTRY_POINT_GROUP, Codec, Coded, Site, register
from millstream._values_sink import Storage, Work
from millstream.errors import TypeTransformerFailedError

__all__ = [
    "ENTRY_POINT_GROUP",
    "Codec",
    "Coded",
    "FlytePickle",
    "Renderable",
    "Site",
    "Storage",
    "TypeEngine",
    "TypeTransformer",
    "TypeTransformerFailedError",
    "Work",
    "register",
]


def __getattr__(name: str) -> Any:
    raise refusal("types", name, __all__)
