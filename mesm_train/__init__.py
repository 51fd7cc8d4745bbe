"""Trains multimodal emotion models on the shards that mesm_data builds."""
