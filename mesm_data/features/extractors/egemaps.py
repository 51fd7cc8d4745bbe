"""eGeMAPS low-level descriptors of the sound, by openSMILE.

Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", IEEE Transactions on Affective Computing 7(2), 2016: 25
descriptors every 10 ms. They stand in for the 142 acoustic features of Dai et al. 2021, which are DisVoice's.
"""

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.features.base import Description, ExtractSample, Features, SampleExtractor, pool

HOP = 0.01  # seconds
SHORTEST = 0.1  # seconds: of less, openSMILE 2.6 gives NaN (0.02 and 0.05 s measured)
STATISTICS = ("mean", "std")
LICENCE = (
    "Computed by openSMILE under the audEERING research licence: its use, and that of the features that it computes, "
    "is for research and not for commercial products"
)


@dataclass(frozen=True)
class EGeMAPS(SampleExtractor):
    """25 descriptors every 10 ms; over windows, the mean and the standard deviation of each.

    Sound of less than 0.1 s is extended with silence to 0.1 s.
    """

    window: float = 0.4
    kind = "egemaps"

    def describe(self) -> Description:
        """Raises InputError without the package opensmile."""
        if find_spec("opensmile") is None:
            raise InputError(f"egemaps needs openSMILE: pip install 'mesm[opensmile]'. {LICENCE}")
        columns = tuple(self._smile(16_000).feature_names)
        if self.window:
            columns = tuple(f"{name}_{statistic}" for statistic in STATISTICS for name in columns)
        return Description(
            columns=columns,
            hop=self.window or HOP,
            licence=LICENCE,
            config={"set": "eGeMAPSv02", "level": "lld", "window": self.window, "shortest": SHORTEST},
            libraries={"opensmile": version("opensmile")},
        )

    def open_sample(self, folder: Path | None) -> ExtractSample:
        """openSMILE, configured once."""
        smiles: dict[int, Any] = {}

        def extract(sample: Sample) -> Features:
            rate = sample.sample_rate
            if rate not in smiles:
                smiles[rate] = self._smile(rate)
            if not len(sample.samples):
                columns = len(smiles[rate].feature_names) * (len(STATISTICS) if self.window else 1)
                return Features(values=np.zeros((0, columns), np.float32), times=np.zeros(0))
            signal = sample.samples.astype(np.float32) / 2**15
            signal = np.pad(signal, (0, max(0, round(SHORTEST * rate) - len(signal))))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = np.asarray(smiles[rate].process_signal(signal, rate), np.float32)
            features = Features(values=values, times=np.asarray(HOP * np.arange(len(values)), np.float64))
            return pool(features, self.window, STATISTICS) if self.window else features

        return extract

    def _smile(self, rate: int) -> Any:
        import opensmile

        return opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
            sampling_rate=rate,
            resample=False,
        )
