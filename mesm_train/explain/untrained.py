"""MESM as it was before training: what its sparse blocks would have kept of an utterance then."""

import torch

from mesm_train.data.plan import derive_seed
from mesm_train.inference.make_model import make_model
from mesm_train.inference.predictor import Predictor
from mesm_train.models.fe2e_mesm import Model


def untrained_model(predictor: Predictor) -> Model | None:
    """MESM with the weights that the run's seed gave it, but for the text branch, which guides the choice, as trained.

    A choice that looks the same before and after training says nothing about what the model has learned: the test by
    random parameters of Adebayo et al. (2018). The text branch stays, because the weights that a pretrained encoder
    began with are not kept with a run.

    Returns:
        The model in evaluation mode on the predictor's device; None for kinds that keep everything.
    """
    trained = predictor.model
    if not isinstance(trained, Model) or trained.settings.kind != "mesm":
        return None
    encoder = None if trained.text is None else trained.text.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(predictor.facts["seed"], "weights"))
        model = make_model(trained.settings, encoder, predictor.encoders)
    assert isinstance(model, Model)
    model.text = trained.text
    return model.to(predictor.device)
