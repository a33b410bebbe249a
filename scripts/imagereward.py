"""What the WebUI executes: names the Script classes it registers, and hangs everything else into its callbacks."""

from concurrent.futures import ThreadPoolExecutor

from imagereward_ext.webui.page.extras import ImageRewardExtras  # noqa: F401
from imagereward_ext.webui.refl_tab import registration as refl_tab
from imagereward_ext.webui.refl_tab.guard import ImageRewardTrainingGuard  # noqa: F401
from imagereward_ext.webui.registration import register
from imagereward_ext.webui.scoring_script import ImageRewardScoring, ImageRewardScript  # noqa: F401

# For every callback the host reads the source of every function on the call stack, 10 ms and more from in here.
# A thread's stack is short.
with ThreadPoolExecutor(1) as thread:
    thread.submit(register).result()
    thread.submit(refl_tab.register).result()
