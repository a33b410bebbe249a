"""A Stable Diffusion checkpoint as trainable parts.

``load_parts`` opens the file a WebUI user has, ``DiffusionParts`` is the one callable seam the algorithms know
(encode, predict, step, decode), and the ``lora`` modules put small trainable layers in and write them out.
"""
