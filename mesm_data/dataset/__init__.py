"""The dataset format: recipe, canonical tar, manifest, reader. The only stage that training imports."""
