"""The service's answers as messages of the contract."""

from __future__ import annotations

from caption_svc.engine import ServedCaptioner
from caption_svc.model import Caption
from caption_svc.options import CaptionCall
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.rpc.status import to_status
from lensmesh_inference.items import Completed, Failed
from lensmesh_serving import model_info
from lensmesh_serving.timings import write_timings


def write_caption(caption: Caption, label: str) -> common_pb2.Caption:
    """Write a caption; `label` is that of the model."""
    return common_pb2.Caption(
        text=caption.text,
        confidence=caption.confidence,
        token_count=caption.token_count,
        truncated=caption.truncated,
        model=label,
    )


def write_result(call: CaptionCall, completed: Completed[Caption]) -> caption_pb2.CaptionResult:
    """Write one image's caption with its timings."""
    return caption_pb2.CaptionResult(
        caption=write_caption(completed.value, call.label), timings=write_timings(completed.timing)
    )


def write_error(failed: Failed) -> caption_pb2.CaptionResult:
    """Write one image's failure, and how long it took."""
    timings = common_pb2.Timings(total_us=failed.total_us)
    return caption_pb2.CaptionResult(error=to_status(failed.error), timings=timings)


def write_model(info: common_pb2.ModelInfo, served: ServedCaptioner) -> None:
    """Write one model as it is now into an empty message."""
    model_info.write_model_info(info, served.model.facts, served.model.devices(), served.canary_age_s)


def write_limits(settings: CaptionSettings) -> common_pb2.Limits:
    """Write the limits of what the service accepts."""
    limits = model_info.write_limits(settings)
    limits.max_caption_tokens = settings.max_caption_tokens
    return limits
