"""Why a model predicts what it predicts: kept sites, and what changes when a part of the input is taken away."""
