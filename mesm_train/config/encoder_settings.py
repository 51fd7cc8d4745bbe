"""The settings of pretrained encoders of sound and faces. The string under a field is its help."""

from dataclasses import dataclass

from mesm_train.config.typed_yaml import need


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """A pretrained encoder in place of a convolutional stack."""

    encoder: str | None = None
    """A model of the Hugging Face Hub, or a folder that holds one; null: the convolutional stack of model."""

    revision: str | None = None
    """Branch, tag or commit of a Hub model; null: the newest. The commit is recorded with the run."""

    lr_factor: float = 0.1
    """The encoder learns at optim.lr times this; 0 freezes it."""

    def check(self, section: str) -> None:
        """Raises InputError that names the setting, in the section of a run, if one cannot work."""
        need(self.encoder != "", f"{section}.encoder", self.encoder, "a model of the Hub, a folder, or null")
        known = self.revision is None or self.encoder is not None
        need(known, f"{section}.revision", self.revision, "null without an encoder")
        need(self.lr_factor >= 0, f"{section}.lr_factor", self.lr_factor, "0 or more")
