"""What the WebUI executes: names the Script classes it registers, and hangs everything else into its callbacks."""

from imagereward_ext.webui.extras import ImageRewardExtras  # noqa: F401
from imagereward_ext.webui.refl_tab import registration as refl_tab
from imagereward_ext.webui.refl_tab.guard import ImageRewardTrainingGuard  # noqa: F401
from imagereward_ext.webui.registration import register
from imagereward_ext.webui.scoring_script import ImageRewardScoring, ImageRewardScript  # noqa: F401

register()
refl_tab.register()
