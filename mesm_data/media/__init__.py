"""Media: decode video and audio, sample frames, crop faces, encode clips. Knows neither recipe nor shard format."""
