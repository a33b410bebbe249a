from modules.scripts import Script
from modules.scripts_postprocessing import ScriptPostprocessing

__all__ = ["Script", "ScriptPostprocessing"]
