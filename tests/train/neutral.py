"""Statistics and calibrations that change nothing, for tests that predict without training."""

import numpy as np
import torch

from mesm_train.training.evaluation import Calibration
from mesm_train.training.losses import TargetStatistics


def neutral_statistics(outputs: int) -> TargetStatistics:
    """No weights; numbers in their own units."""
    ones = torch.ones(outputs)
    return TargetStatistics(pos_weight=ones, offset=0 * ones, scale=ones)


def neutral_calibration(outputs: int, pos_weight: float = 1.0) -> Calibration:
    """Thresholds of one half."""
    ones = np.ones(outputs)
    return Calibration(thresholds=0.5 * ones, pos_weight=pos_weight * ones, offset=0 * ones, scale=ones)
