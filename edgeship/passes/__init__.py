"""Techniques: a training pass wraps a tf_keras model, a flatbuffer pass turns one TFLite file into another."""
