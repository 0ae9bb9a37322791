"""edgeship: a trained model in, a smaller and faster one out, proved to be the same model."""

__version__ = "0.1.0"
