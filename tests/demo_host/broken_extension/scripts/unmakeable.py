from modules import scripts


class Unmakeable(scripts.Script):
    def __init__(self):
        raise RuntimeError("cannot be made")
