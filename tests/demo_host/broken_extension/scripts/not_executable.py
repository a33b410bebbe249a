raise RuntimeError("cannot be executed")
