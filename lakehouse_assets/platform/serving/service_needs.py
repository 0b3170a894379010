"""What a service needs of the process next to it, which does what is no answer.

It goes through a pipe as JSON, so it is data alone. Who asks for it is in `background`.
"""

import msgspec

from lakehouse_assets.platform.storage.feature_versions import FeatureVersion


class NeededSet(msgspec.Struct, frozen=True):
    """What endpoints look up of a feature set.

    Attributes:
        learnt: The versions that the models which answer were trained on.
    """

    learnt: tuple[FeatureVersion, ...] = ()


class ServiceNeeds(msgspec.Struct, frozen=True):
    """What is done for the service.

    Attributes:
        writer: The name under which it writes segments of the inference log; empty: it cannot.
        sets: What it looks up.
    """

    writer: str = ""
    sets: dict[str, NeededSet] = {}
