"""The published rows that a comparison can show beside ours.

Dai et al., "Multimodal End-to-End Sparse Model for Emotion Recognition", NAACL 2021: Table 3 (IEMOCAP: accuracy and F1)
and Table 4 (CMU-MOSEI: balanced accuracy, which they call weighted accuracy, and F1), in percent, of the view `six` and
the split `paper`. The rows marked † were re-run by its authors.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """One table.

    Attributes:
        reference: where it stands.
        accuracy: the metric that its first number is; the second is F1.
        rows: by model, accuracy/F1 in percent of the classes in the order of the view, and of their mean.
    """

    reference: str
    accuracy: str
    rows: dict[str, str]

    def scores(self, model: str) -> list[tuple[float, float]]:
        """Accuracy and F1 of a model, as shares, of the classes and last of their mean."""
        pairs = (pair.split("/") for pair in self.rows[model].split())
        return [(float(accuracy) / 100, float(f1) / 100) for accuracy, f1 in pairs]


PUBLISHED = {
    "iemocap": PublishedTable(
        reference="Dai et al. 2021, Table 3",
        accuracy="accuracy",
        rows={
            "LF-LSTM": "71.2/49.4 79.3/57.2 68.2/51.5 67.2/37.6 66.5/47.0 78.2/54.0 71.8/49.5",
            "LF-TRANS": "81.9/50.7 85.3/57.3 60.5/49.3 85.2/37.6 72.4/49.7 87.4/57.4 78.8/50.3",
            "EmoEmbs†": "65.9/48.9 73.5/58.3 68.5/52.0 69.6/38.3 73.6/48.7 80.8/53.0 72.0/49.8",
            "MulT†": "77.9/60.7 76.9/58.0 72.4/57.0 80.0/46.8 74.9/53.7 83.5/65.4 77.6/56.9",
            "FE2E": "88.7/63.9 89.1/61.9 71.2/57.8 90.0/44.8 79.1/58.4 89.1/65.7 84.5/58.8",
            "MESM": "88.2/62.8 88.3/61.2 74.9/58.4 89.5/47.3 77.0/52.0 88.6/62.2 84.4/57.4",
        },
    ),
    "mosei": PublishedTable(
        reference="Dai et al. 2021, Table 4",
        accuracy="balanced_accuracy",
        rows={
            "LF-LSTM": "64.5/47.1 70.5/49.8 61.7/22.2 61.3/73.2 63.4/47.2 57.1/20.6 63.1/43.3",
            "LF-TRANS": "65.3/47.7 74.4/51.9 62.1/24.0 60.6/72.9 60.1/45.5 62.1/24.2 64.1/44.4",
            "EmoEmbs†": "66.8/49.4 69.6/48.7 63.8/23.4 61.2/71.9 60.5/47.5 63.3/24.0 64.2/44.2",
            "MulT†": "64.9/47.5 71.6/49.3 62.9/25.3 67.2/75.4 64.0/48.3 61.4/25.6 65.4/45.2",
            "FE2E": "67.0/49.6 77.7/57.1 63.8/26.8 65.4/72.6 65.2/49.0 66.7/29.1 67.6/47.4",
            "MESM": "66.8/49.3 75.6/56.4 65.8/28.9 64.1/72.3 63.0/46.6 65.7/27.2 66.8/46.8",
        },
    ),
}
