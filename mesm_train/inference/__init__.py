"""What a trained model is used for: predict clips, export to other programs."""

from mesm_train.inference.clips import Clip, ClipInput
from mesm_train.inference.load import load
from mesm_train.inference.predictor import Predictor
from mesm_train.inference.result import Failure, Prediction, Timeline

__all__ = ["Clip", "ClipInput", "Failure", "Prediction", "Predictor", "Timeline", "load"]
