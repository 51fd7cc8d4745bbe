"""The dataset format: recipe, members, tar, manifest, reader, remote shards."""
