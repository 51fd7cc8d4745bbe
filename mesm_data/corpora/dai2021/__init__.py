"""The processed release of the paper's authors (Dai et al. 2021), for both corpora."""
