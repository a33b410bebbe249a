from modules import scripts


class Untitled(scripts.Script): ...
