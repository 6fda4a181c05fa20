"""Converts YAMLs of YACS, of detectron2 and maskrcnn-benchmark, to LazyConfig files."""
