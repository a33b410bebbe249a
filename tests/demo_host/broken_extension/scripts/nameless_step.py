from modules import scripts_postprocessing


class NamelessStep(scripts_postprocessing.ScriptPostprocessing):
    order = 1000
