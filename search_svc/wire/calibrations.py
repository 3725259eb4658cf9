"""Translation of calibrations between the contract and the domain."""

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from search_svc.calibration import Calibration, Modality

MODALITIES = {
    Modality.IMAGE: common_pb2.MODALITY_IMAGE,
    Modality.TEXT: common_pb2.MODALITY_TEXT,
}


def write_calibration(calibration: Calibration, message: search_pb2.Calibration) -> None:
    """Fill a message with a calibration."""
    message.modality = MODALITIES[calibration.modality]
    message.median = calibration.median
    message.p90 = calibration.p90
    message.p99 = calibration.p99
    message.p999 = calibration.p999
    message.match_median = calibration.match_median
    message.pair_count = calibration.pair_count
    message.measure_time.FromDatetime(calibration.measure_time)
