"""Images as files: their names, the infotext inside them, grids, resizing."""

from __future__ import annotations

import datetime
import hashlib
import io
import math
import re
import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import piexif
import piexif.helper
from PIL import Image, ImageColor, ImageFont, ImageOps, PngImagePlugin

from modules import errors, script_callbacks, shared

LANCZOS = Image.Resampling.LANCZOS
INVALID_FILENAME_CHARS = '#<>:"/\\|?*\n\r\t'
MAX_NAME_PART = 128
NOTHING_AND_SKIP_PREVIOUS_TEXT = object()


# ---- grids and sizes


def _grid_rows(count: int, batch_size: int) -> int:
    if shared.opts.n_rows > 0:
        rows = shared.opts.n_rows
    elif shared.opts.n_rows == 0:
        rows = batch_size
    elif shared.opts.grid_prevent_empty_spots:
        rows = next(r for r in range(math.isqrt(count), 0, -1) if count % r == 0)
    else:
        rows = round(math.sqrt(count))
    return max(1, min(rows, count))


def image_grid(imgs: list[Image.Image], batch_size: int = 1, rows: int | None = None) -> Image.Image:
    rows = rows or _grid_rows(len(imgs), batch_size)
    params = script_callbacks.ImageGridLoopParams(imgs, math.ceil(len(imgs) / rows), rows)
    script_callbacks.image_grid_callback(params)
    width, height = max(i.width for i in imgs), max(i.height for i in imgs)
    background = ImageColor.getcolor(shared.opts.grid_background_color, "RGB")
    grid = Image.new("RGB", (params.cols * width, params.rows * height), background)
    for index, image in enumerate(params.imgs):
        row, column = divmod(index, params.cols)
        margin_x, margin_y = (width - image.width) // 2, (height - image.height) // 2
        grid.paste(image, (column * width + margin_x, row * height + margin_y))
    return grid


def upscalers() -> list[Any]:
    """None, Lanczos and Nearest, in the shape of a WebUI's upscalers."""
    filters = {"None": None, "Lanczos": LANCZOS, "Nearest": Image.Resampling.NEAREST}
    return [SimpleNamespace(name=name, resample=f, scale=4, data_path=None) for name, f in filters.items()]


def resize_image(
    resize_mode: int, im: Image.Image, width: int, height: int, upscaler_name: str | None = None
) -> Image.Image:
    """0: stretch. 1: cover and crop. 2: fit inside, the border filled with a stretched copy of the image."""
    chosen = next((u for u in shared.sd_upscalers if u.name == upscaler_name), None)
    resample = chosen.resample if chosen is not None and chosen.resample is not None else LANCZOS
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


def read(fp: Any, **kwargs: Any) -> Image.Image:
    return fix_image(Image.open(fp, **kwargs))


def fix_image(image: Image.Image) -> Image.Image:
    """Turned as its camera says; the infotext stays with it."""
    info = image.info
    image = ImageOps.exif_transpose(image)
    image.info = info
    return image


# ---- file names


def sanitize_filename_part(text: str | None, replace_spaces: bool = True) -> str | None:
    if text is None:
        return None
    if replace_spaces:
        text = text.replace(" ", "_")
    text = text.translate({ord(c): "_" for c in INVALID_FILENAME_CHARS})
    return text.lstrip(" ")[:MAX_NAME_PART].rstrip(" .")


def _hash(text: str, *length: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[: int(length[0]) if length and length[0] else 8]


class FilenameGenerator:
    """Fills a pattern such as `[seed]-[prompt_spaces]`. Extensions add their own tokens to `replacements`."""

    replacements: dict[str, Callable[..., Any]] = {  # noqa: RUF012  # shared on purpose: extensions write into it
        "basename": lambda self: self.basename or "img",
        "seed": lambda self: self.seed if self.seed is not None else "",
        "seed_first": lambda self: self.seed if self.p.batch_size == 1 else self.p.all_seeds[0],
        "seed_last": lambda self: (
            NOTHING_AND_SKIP_PREVIOUS_TEXT if self.p.batch_size == 1 else self.p.all_seeds[-1]
        ),
        "steps": lambda self: self.p and self.p.steps,
        "cfg": lambda self: self.p and self.p.cfg_scale,
        "width": lambda self: self.image.width,
        "height": lambda self: self.image.height,
        "styles": lambda self: self.p and sanitize_filename_part(", ".join(self.p.styles) or "None", False),
        "sampler": lambda self: self.p and sanitize_filename_part(self.p.sampler_name, False),
        "model_hash": lambda self: getattr(self.p, "sd_model_hash", shared.sd_model.sd_model_hash),
        "model_name": lambda self: sanitize_filename_part(
            shared.sd_model.sd_checkpoint_info.name_for_extra, False
        ),
        "date": lambda self: datetime.datetime.now().strftime("%Y-%m-%d"),
        "datetime": lambda self, *a: datetime.datetime.now().strftime(a[0] if a and a[0] else "%Y%m%d%H%M%S"),
        "job_timestamp": lambda self: getattr(self.p, "job_timestamp", shared.state.job_timestamp),
        "prompt_hash": lambda self, *a: _hash(self.prompt, *a),
        "prompt": lambda self: sanitize_filename_part(self.prompt),
        "prompt_spaces": lambda self: sanitize_filename_part(self.prompt, False),
        "prompt_words": lambda self: self.prompt_words(),
        "batch_number": lambda self: (
            self.p.batch_index + 1 if self.p.batch_size > 1 else NOTHING_AND_SKIP_PREVIOUS_TEXT
        ),
        "generation_number": lambda self: self.generation_number(),
        "clip_skip": lambda self: shared.opts.CLIP_stop_at_last_layers,
        "denoising": lambda self: (self.p and self.p.denoising_strength) or NOTHING_AND_SKIP_PREVIOUS_TEXT,
        "user": lambda self: self.p.user,
        "none": lambda self: "",
        "image_hash": lambda self, *a: hashlib.sha256(self.image.tobytes()).hexdigest()[
            : int(a[0]) if a else None
        ],
    }

    def __init__(
        self, p: Any, seed: Any, prompt: str | None, image: Image.Image, zip: bool = False, basename: str = ""
    ):
        self.p, self.seed, self.prompt, self.image, self.zip, self.basename = (
            p,
            seed,
            prompt,
            image,
            zip,
            basename,
        )

    def prompt_words(self) -> str | None:
        words = [w for w in re.split(rf"[\s{re.escape(string.punctuation)}]+", self.prompt or "") if w] or [
            "empty"
        ]
        return sanitize_filename_part(" ".join(words[: shared.opts.directories_max_prompt_words]), False)

    def generation_number(self) -> Any:
        if (self.p.n_iter == 1 and self.p.batch_size == 1) or self.zip:
            return NOTHING_AND_SKIP_PREVIOUS_TEXT
        return self.p.iteration * self.p.batch_size + self.p.batch_index + 1

    def apply(self, pattern: str) -> str:
        """Text, then the token's value; a token that says so takes the text before it away with it."""
        result = ""
        for match in re.finditer(r"(.*?)(?:\[([^\[\]]+)\]|$)", pattern):
            text, token = match.groups()
            if token is None:
                result += text
                continue
            name, *args = re.split(r"<([^>]*)>", token)
            value = self._value(name, [a for a in args if a])
            if value is NOTHING_AND_SKIP_PREVIOUS_TEXT:
                continue
            result += text + (f"[{token}]" if value is None else str(value))
        return result

    def _value(self, name: str, args: list[str]) -> Any:
        replacement = self.replacements.get(name.lower())
        if replacement is None:
            return None
        try:
            return replacement(self, *args)
        except Exception:
            errors.report(f"Error adding [{name}] to filename", exc_info=True)
            return None


def get_next_sequence_number(path: str, basename: str) -> int:
    """One more than the highest number that files in `path` begin with (after `basename-`)."""
    prefix = f"{basename}-" if basename else ""
    numbers = [-1]
    for file in Path(path).iterdir():
        first = file.stem.removeprefix(prefix).split("-")[0] if file.name.startswith(prefix) else ""
        if first.isdigit():
            numbers.append(int(first))
    return max(numbers) + 1


# ---- saving


def save_image_with_geninfo(
    image: Image.Image,
    geninfo: str | None,
    filename: str,
    extension: str | None = None,
    existing_pnginfo: dict[str, Any] | None = None,
    pnginfo_section_name: str = "parameters",
) -> None:
    """PNG keeps a dictionary of texts; JPEG and WebP keep the infotext alone, as EXIF UserComment."""
    extension = (extension or Path(filename).suffix).lower()
    image_format = Image.registered_extensions()[extension]
    quality = {"quality": shared.opts.jpeg_quality}
    if extension == ".png":
        texts = dict(existing_pnginfo or {})
        if geninfo is not None:
            texts[pnginfo_section_name] = geninfo
        info = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            info.add_text(key, str(value))
        image.save(filename, format=image_format, pnginfo=info if shared.opts.enable_pnginfo else None)
    elif extension in (".jpg", ".jpeg", ".webp"):
        image = image.convert("RGB") if image.mode in ("RGBA", "P") else image
        if extension == ".webp":
            quality["lossless"] = shared.opts.webp_lossless
        exif = exif_with(geninfo) if shared.opts.enable_pnginfo and geninfo is not None else b""
        image.save(filename, format=image_format, exif=exif, **quality)
    else:
        image.save(filename, format=image_format, **quality)


def exif_with(geninfo: str) -> bytes:
    comment = piexif.helper.UserComment.dump(geninfo, encoding="unicode")
    return piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}})


def _target(
    namegen: FilenameGenerator, path: str, extension: str, forced: str | None, decoration: str | None
) -> str:
    """The full name of the file to write."""
    Path(path).mkdir(parents=True, exist_ok=True)
    if forced is not None:
        return str(Path(path) / f"{forced}.{extension}")
    decoration = decoration or ""
    if not (shared.opts.save_images_add_number or not decoration):
        return str(Path(path) / f"{decoration}.{extension}")
    if decoration:
        decoration = f"-{decoration}"
    basename = namegen.basename
    number = get_next_sequence_number(path, basename)
    while True:
        name = f"{basename}-{number:04}" if basename else f"{number:05}"
        full = Path(path) / f"{name}{decoration}.{extension}"
        if not full.exists():
            return str(full)
        number += 1


def _write(
    image: Image.Image, info: str | None, pnginfo: dict[str, Any], section: str, filename: str
) -> None:
    """Write beside the target and move into place, so that nobody sees half a file."""
    target = Path(filename)
    if shared.opts.save_images_replace_action != "Replace":
        taken = 0
        while target.exists():
            taken += 1
            target = Path(filename).with_name(f"{Path(filename).stem}-{taken}{target.suffix}")
    part = target.with_name(target.name + ".tmp")
    save_image_with_geninfo(image, info, str(part), target.suffix, pnginfo, section)
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
    no_prompt: bool = False,
    grid: bool = False,
    pnginfo_section_name: str = "parameters",
    p: Any = None,
    existing_info: dict[str, Any] | None = None,
    forced_filename: str | None = None,
    suffix: str = "",
    save_to_dirs: bool | None = None,
) -> tuple[str, str | None]:
    """Save an image with its infotext; extensions may change where and what. Returns (file, .txt file or None)."""
    opts = shared.opts
    namegen = FilenameGenerator(p, seed, prompt, image, basename=basename)
    if save_to_dirs is None:
        save_to_dirs = opts.grid_save_to_dirs if grid else opts.save_to_dirs and not no_prompt
    if save_to_dirs:
        folder = namegen.apply(opts.directories_filename_pattern or "[prompt_words]").strip(" ").rstrip("\\/")
        path = str(Path(path) / folder)
    default = "[seed]" if opts.save_to_dirs else "[seed]-[prompt_spaces]"
    pattern = "" if short_filename or seed is None else opts.samples_filename_pattern or default
    filename = _target(namegen, path, extension, forced_filename, namegen.apply(pattern) + suffix)

    pnginfo = dict(existing_info or {})
    if info is not None:
        pnginfo[pnginfo_section_name] = info
    params = script_callbacks.ImageSaveParams(image, p, filename, pnginfo)
    script_callbacks.before_image_saved_callback(params)
    info = params.pnginfo.get(pnginfo_section_name)
    _write(params.image, info, params.pnginfo, pnginfo_section_name, params.filename)
    params.image.already_saved_as = image.already_saved_as = params.filename
    text_file = _write_text(info, params.filename)
    script_callbacks.image_saved_callback(params)
    return params.filename, text_file


def _write_text(info: str | None, filename: str) -> str | None:
    if not shared.opts.save_txt or info is None:
        return None
    text_file = Path(filename).with_suffix(".txt")
    text_file.write_text(f"{info}\n", encoding="utf8")
    return str(text_file)


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
    elif isinstance(items.get("comment"), bytes):
        geninfo = items["comment"].decode("utf8", errors="ignore")
    return geninfo, {key: value for key, value in items.items() if key not in IGNORED_INFO_KEYS}


def _user_comment(exif: bytes) -> str | None:
    try:
        raw = piexif.load(exif).get("Exif", {}).get(piexif.ExifIFD.UserComment, b"")
    except (OSError, ValueError):
        return None
    try:
        return piexif.helper.UserComment.load(raw)
    except ValueError:
        return raw.decode("utf8", errors="ignore")


def image_data(data: bytes) -> tuple[str | None, None]:
    """The infotext of an uploaded file, or the text that it is."""
    try:
        return read_info_from_image(read(io.BytesIO(data)))[0], None
    except OSError:
        return data.decode("utf8", errors="ignore")[:10000], None
