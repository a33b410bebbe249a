def preload(parser):
    raise RuntimeError("has no flags to add")
