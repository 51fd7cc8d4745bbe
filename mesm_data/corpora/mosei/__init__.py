"""CMU-MOSEI: the raw archive, and the layout of MMSA and M-SENA."""
