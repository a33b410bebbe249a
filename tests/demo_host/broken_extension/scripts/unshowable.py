from modules import scripts


class Unshowable(scripts.Script):
    def title(self):
        return "Unshowable"

    def show(self, is_img2img):
        raise RuntimeError("cannot say whether it shows")
