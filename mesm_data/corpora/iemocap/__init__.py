"""IEMOCAP: the folder IEMOCAP_full_release."""
