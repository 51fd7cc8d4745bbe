"""Try a trained model on a clip in a browser."""
