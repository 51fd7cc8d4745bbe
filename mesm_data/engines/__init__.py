"""Where work runs. A step never knows where it runs."""
