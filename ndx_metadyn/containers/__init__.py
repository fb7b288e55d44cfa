"""The types of the schema, one module each or few, hand-written.

The classes that hdmf generates accept what the schema cannot forbid: 1-D latents, an SD of another
length, a negative SD, any word for `estimate`. These here raise at construction, and only warn on
reading, so that a faulty file still opens. Axes: time latent unit embedding.

A class registers itself with `@neurodata_type(...)`; `ndx_metadyn/__init__.py` imports it.
"""
