"""A Docker daemon as a builder of images, for every engine that has one: it knows no engine."""
