"""What is asked of the models: images and texts, labels, collections to compare with."""

from typing import Annotated, Any

from pydantic import Field

from http_svc.rest.asked import Asked
from http_svc.rest.filters import DESCRIPTION
from http_svc.rest.sources import MOST_PARTS, ImageSource

_UINT32 = 2**32 - 1
Images = Annotated[list[ImageSource], Field(default_factory=list, max_length=MOST_PARTS)]


class CaptionBody(Asked):
    """Images to describe."""

    images: Images
    prompt: Annotated[str, Field(description="Words that each caption begins with.")] = ""
    max_tokens: Annotated[int, Field(ge=0, le=_UINT32, description="The service's default for 0.")] = 0


class EmbedBody(Asked):
    """Texts or images to embed, not both."""

    texts: Annotated[list[str], Field(default_factory=list)]
    images: Images
    space_id: Annotated[str, Field(description="Only this space will do; the default one, unless given.")] = ""


class ClassifyBody(Asked):
    """Images, and the labels that they are scored against."""

    labels: Annotated[list[str], Field(default_factory=list)]
    templates: Annotated[list[str], Field(default_factory=list, description='Sentences with "{}" for the label.')]
    images: Images
    top: Annotated[int, Field(ge=0, le=_UINT32, description="Labels of each image; all of them for 0.")] = 0


class ThresholdsBody(Asked):
    """Confidences that the verdicts begin at."""

    match: Annotated[float | None, Field(ge=0, le=1)] = None
    unsure: Annotated[float | None, Field(ge=0, le=1)] = None


class MatchBody(Asked):
    """Images, and the collection whose entries they may show."""

    images: Images
    collection: str = ""
    entry_fields: Annotated[list[str], Field(default_factory=list, description="Fields that make an entry.")]
    thresholds: ThresholdsBody | None = None
    alternatives: Annotated[int, Field(ge=0, le=_UINT32)] = 0
    candidates: Annotated[int, Field(ge=0, le=_UINT32)] = 0
    space: str = ""
    filter: Annotated[dict[str, Any] | list[str] | str | None, Field(description=DESCRIPTION)] = None
