from modules import scripts_postprocessing


class UnmakeableStep(scripts_postprocessing.ScriptPostprocessing):
    def __init__(self):
        raise RuntimeError("cannot be made")
