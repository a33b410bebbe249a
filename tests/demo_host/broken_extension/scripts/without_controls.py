from modules import scripts


class WithoutControls(scripts.Script):
    def title(self):
        return "Without controls"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        raise RuntimeError("makes no controls")
