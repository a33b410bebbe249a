"""Images as files: their names, the infotext inside them, grids, resizing."""

from __future__ import annotations

import datetime
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import piexif
import piexif.helper
from PIL import Image, ImageFont, ImageOps, PngImagePlugin

from modules import errors, script_callbacks, shared

LANCZOS = Image.Resampling.LANCZOS
NOTHING_AND_SKIP_PREVIOUS_TEXT = object()


# ---- grids and sizes


def image_grid(imgs: list[Image.Image], batch_size: int = 1, rows: int | None = None) -> Image.Image:
    rows = rows or max(1, round(math.sqrt(len(imgs))))
    params = script_callbacks.ImageGridLoopParams(imgs, math.ceil(len(imgs) / rows), rows)
    script_callbacks.image_grid_callback(params)
    width, height = max(i.width for i in imgs), max(i.height for i in imgs)
    grid = Image.new("RGB", (params.cols * width, params.rows * height), "white")
    for index, image in enumerate(params.imgs):
        row, column = divmod(index, params.cols)
        grid.paste(image, (column * width, row * height))
    return grid


def upscalers() -> list[Any]:
    """In the shape of a WebUI's upscalers."""
    filters = {"Lanczos": LANCZOS, "Nearest": Image.Resampling.NEAREST}
    return [SimpleNamespace(name=name, resample=resample) for name, resample in filters.items()]


def resize_image(
    resize_mode: int, im: Image.Image, width: int, height: int, upscaler_name: str | None = None
) -> Image.Image:
    """0: stretch. 1: cover and crop. 2: fit inside, the border filled with a stretched copy of the image."""
    filters = {upscaler.name: upscaler.resample for upscaler in shared.sd_upscalers}
    if upscaler_name is not None and upscaler_name not in filters:
        raise ValueError(f"could not find upscaler named {upscaler_name}; there are {', '.join(filters)}")
    resample = filters.get(upscaler_name, LANCZOS)
    if resize_mode == 0:
        return im.resize((width, height), resample)
    if resize_mode == 1:
        return ImageOps.fit(im, (width, height), resample)
    inside = ImageOps.contain(im, (width, height), resample)
    result = im.convert("RGB").resize((width, height), resample)
    result.paste(inside, ((width - inside.width) // 2, (height - inside.height) // 2))
    return result


def get_font(fontsize: int) -> Any:
    """The font of the settings, else Pillow's own."""
    try:
        return ImageFont.truetype(shared.opts.font, fontsize)
    except OSError:
        return ImageFont.load_default(fontsize)


def flatten(img: Image.Image, bgcolor: str) -> Image.Image:
    if img.mode == "RGBA":
        background = Image.new("RGBA", img.size, bgcolor)
        background.alpha_composite(img)
        img = background
    return img.convert("RGB")


def read(fp: Any) -> Image.Image:
    """Turned as its camera says; the infotext stays with it."""
    image = Image.open(fp)
    turned = ImageOps.exif_transpose(image)
    turned.info = image.info
    return turned


# ---- file names


def sanitize_filename_part(text: str) -> str:
    return re.sub(r'[#<>:"/\\|?*\n\r\t]', "_", text).lstrip(" ")[:128].rstrip(" .")


class FilenameGenerator:
    """Fills a pattern such as `[seed]-[prompt_spaces]`. Extensions add their own tokens to `replacements`."""

    replacements: dict[str, Callable[..., Any]] = {  # noqa: RUF012  # shared on purpose: extensions write into it
        "seed": lambda self: "" if self.seed is None else self.seed,
        "steps": lambda self: self.p.steps,
        "cfg": lambda self: self.p.cfg_scale,
        "width": lambda self: self.image.width,
        "height": lambda self: self.image.height,
        "sampler": lambda self: sanitize_filename_part(self.p.sampler_name),
        "model_name": lambda self: sanitize_filename_part(shared.sd_model.sd_checkpoint_info.name_for_extra),
        "date": lambda self: datetime.datetime.now().strftime("%Y-%m-%d"),
        "datetime": lambda self: datetime.datetime.now().strftime("%Y%m%d%H%M%S"),
        "prompt_spaces": lambda self: sanitize_filename_part(self.prompt or ""),
    }

    def __init__(self, p: Any, seed: Any, prompt: str | None, image: Image.Image):
        self.p, self.seed, self.prompt, self.image = p, seed, prompt, image

    def apply(self, pattern: str) -> str:
        """Text, then the token's value; a token that says so takes the text before it away with it."""
        result = ""
        for text, token in re.findall(r"(.*?)(?:\[([^\[\]]+)\]|$)", pattern):
            value = self._value(token) if token else ""
            if value is not NOTHING_AND_SKIP_PREVIOUS_TEXT:
                result += text + (f"[{token}]" if value is None else str(value))
        return result

    def _value(self, token: str) -> Any:
        """None for a token that nobody knows: it stays as it is."""
        try:
            return self.replacements[token.lower()](self) if token.lower() in self.replacements else None
        except Exception:
            errors.report(f"Error adding [{token}] to filename", exc_info=True)
            return None


def get_next_sequence_number(path: Path, prefix: str) -> int:
    """One more than the highest number that files in `path` begin with, after the prefix."""
    starts = (file.stem.removeprefix(prefix).split("-")[0] for file in path.glob(f"{prefix}*"))
    return max((int(start) for start in starts if start.isdigit()), default=-1) + 1


# ---- saving


def save_image_with_geninfo(
    image: Image.Image, geninfo: str | None, filename: str, extension: str, texts: dict[str, Any]
) -> None:
    """PNG keeps a dictionary of texts; JPEG and WebP keep the infotext alone, as EXIF UserComment."""
    if extension == ".png":
        info = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            info.add_text(key, str(value))
        image.save(filename, format="PNG", pnginfo=info if shared.opts.enable_pnginfo else None)
        return
    exif = exif_with(geninfo) if shared.opts.enable_pnginfo and geninfo is not None else b""
    image_format = Image.registered_extensions()[extension]
    image.convert("RGB").save(filename, format=image_format, exif=exif, quality=shared.opts.jpeg_quality)


def exif_with(geninfo: str) -> bytes:
    comment = piexif.helper.UserComment.dump(geninfo, encoding="unicode")
    return piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}})


def _target(folder: Path, basename: str, name: str, extension: str) -> Path:
    """The file to write: numbered, unless the settings say otherwise and there is another name."""
    folder.mkdir(parents=True, exist_ok=True)
    if name and not shared.opts.save_images_add_number:
        return folder / f"{name}.{extension}"
    prefix = f"{basename}-" if basename else ""
    digits = f"{get_next_sequence_number(folder, prefix):0{4 if basename else 5}}"
    return folder / f"{prefix}{digits}{'-' if name else ''}{name}.{extension}"


def _write(image: Image.Image, info: str | None, texts: dict[str, Any], filename: str) -> None:
    """Write beside the target and move into place, so that nobody sees half a file."""
    wanted = target = Path(filename)
    taken = 0
    while target.exists() and shared.opts.save_images_replace_action != "Replace":
        taken += 1
        target = wanted.with_name(f"{wanted.stem}-{taken}{wanted.suffix}")
    part = target.with_name(target.name + ".tmp")
    save_image_with_geninfo(image, info, str(part), target.suffix.lower(), texts)
    part.replace(target)


def save_image(
    image: Image.Image,
    path: str,
    basename: str,
    seed: Any = None,
    prompt: str | None = None,
    extension: str = "png",
    info: str | None = None,
    short_filename: bool = False,
    grid: bool = False,
    pnginfo_section_name: str = "parameters",
    p: Any = None,
    existing_info: dict[str, Any] | None = None,
    forced_filename: str | None = None,
    suffix: str = "",
    save_to_dirs: bool | None = None,
) -> tuple[str, str | None]:
    """Save an image with its infotext; extensions may change where and what. Returns (file, .txt file or None)."""
    opts, names = shared.opts, FilenameGenerator(p, seed, prompt, image)
    folder = Path(path)
    if opts.save_to_dirs if save_to_dirs is None else save_to_dirs:
        folder /= names.apply(opts.directories_filename_pattern).strip(" /\\")
    pattern = "" if short_filename or seed is None else opts.samples_filename_pattern or "[seed]"
    if forced_filename is not None:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{forced_filename}.{extension}"
    else:
        target = _target(folder, basename, names.apply(pattern) + suffix, extension)
    pnginfo = {**(existing_info or {}), **({} if info is None else {pnginfo_section_name: info})}
    params = script_callbacks.ImageSaveParams(image, p, str(target), pnginfo)
    script_callbacks.before_image_saved_callback(params)
    info = params.pnginfo.get(pnginfo_section_name)
    _write(params.image, info, params.pnginfo, params.filename)
    params.image.already_saved_as = image.already_saved_as = params.filename
    text_file = Path(params.filename).with_suffix(".txt") if opts.save_txt and info is not None else None
    if text_file is not None:
        text_file.write_text(f"{info}\n", encoding="utf8")
    script_callbacks.image_saved_callback(params)
    return params.filename, text_file and str(text_file)


# ---- reading

IGNORED_INFO_KEYS = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "loop", "background", "timestamp"),
    *("duration", "progressive", "progression", "icc_profile", "chromaticity", "photoshop"),
}


def read_info_from_image(image: Image.Image) -> tuple[str | None, dict[str, Any]]:
    """The infotext of an image, and the other texts it carries."""
    items = dict(image.info or {})
    geninfo = items.pop("parameters", None)
    if "exif" in items:
        geninfo = _user_comment(items["exif"]) or geninfo
    return geninfo, {key: value for key, value in items.items() if key not in IGNORED_INFO_KEYS}


def _user_comment(exif: bytes) -> str | None:
    try:
        raw = piexif.load(exif).get("Exif", {}).get(piexif.ExifIFD.UserComment, b"")
        return piexif.helper.UserComment.load(raw)
    except (OSError, ValueError):
        return None


def png_with_texts(image: Image.Image) -> bytes:
    """The image as a PNG file that carries its texts."""
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str):
            info.add_text(key, value)
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
