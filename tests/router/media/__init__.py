"""Tests of the images that a router keeps."""
