// Scores under the gallery and on its thumbnails, in the markup of gradio 3 and 4.
//
// gradio keeps a gallery's generation info out of the page, so a hidden button hands it to imageRewardShow(), and
// is pressed when the gallery's images change. (That of Extras reads the files.) Nothing runs while nothing changes.
(function() {
    "use strict";

    const TABS = ["txt2img", "img2img", "extras"];
    const PANELS = ["every", "script"];
    const ANSWER = "ImageReward scores";
    const state = {}; // per tab: what the last generation info said, image by image

    function app() {
        return typeof gradioApp === "function" ? gradioApp() : document;
    }

    function wanted() {
        return typeof opts === "undefined" || opts.imagereward_badges !== false;
    }

    function thumbnails(tab) {
        const all = Array.from(app().querySelectorAll(`#${tab}_gallery .thumbnail-item`));
        const small = all.filter((item) => item.classList.contains("thumbnail-small"));
        return small.length ? small : all; // the open preview shows its images a second time in gradio 4
    }

    function sources(tab) {
        return thumbnails(tab).map((item) => item.querySelector("img, video")?.src ?? "").join("\n");
    }

    // The parameters of one image are the last line of its infotext.
    function scoreInText(infotext, label) {
        const line = (infotext ?? "").trim().split("\n").pop();
        const key = label.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        const found = new RegExp(`(?:^|, )${key}: (-?[0-9]+\\.[0-9]+)(?:,|$)`).exec(line);
        return found ? Number(found[1]) : null;
    }

    function read(generationInfo) {
        const info = JSON.parse(generationInfo);
        const answer = info.extra_generation_params?.[ANSWER] ?? {};
        const label = answer.scorer ?? "ImageReward";
        const texts = info.infotexts ?? [];
        const first = info.index_of_first_image ?? 0;
        return Array.from({length: Math.max(texts.length, answer.scores?.length ?? 0)}, (_, index) => {
            const told = answer.scores?.[index] ?? null;
            const written = index < first ? null : scoreInText(texts[index], label);
            const score = told ?? written;
            // "Upscale" replaces an image and its text only: then the text is right, and its place is unknown.
            const replaced = told !== null && written !== null && Math.abs(told - written) > 1e-6;
            return {label, score: replaced ? written : score, place: replaced ? null : answer.percentiles?.[index] ?? null};
        });
    }

    function colour(entry) {
        const share = entry.place ?? Math.min(1, Math.max(0, (entry.score + 2) / 4));
        return `hsl(${Math.round(120 * share)}, 60%, 35%)`;
    }

    function describe(entry) {
        const place = entry.place === null ? "" : `, better than ${Math.round(100 * entry.place)}% of your own images`;
        const decimals = typeof opts === "undefined" ? 4 : opts.imagereward_decimals ?? 4;
        return [`${entry.label} ${entry.score.toFixed(decimals)}`, place];
    }

    function lineOf(tab) {
        const id = `imagereward-${tab}-line`;
        let line = app().getElementById ? app().getElementById(id) : document.getElementById(id);
        if (!line) {
            line = document.createElement("div");
            line.id = id;
            line.className = "imagereward-line";
            app().querySelector(`#${tab}_gallery_container`)?.after(line);
        }
        return line;
    }

    function drawLine(tab, items) {
        const selected = items.findIndex((item) => item.classList.contains("selected"));
        const entry = state[tab]?.[selected];
        const line = lineOf(tab);
        const key = entry && entry.score !== null ? JSON.stringify(entry) : "";
        if (line.dataset.shown === key) return;
        line.dataset.shown = key;
        line.replaceChildren();
        if (!key) return;
        const [score, place] = describe(entry);
        const mark = document.createElement("span");
        mark.textContent = score;
        mark.style.backgroundColor = colour(entry);
        line.append(mark, place);
    }

    function drawBadge(item, entry) {
        let badge = item.querySelector(".imagereward-badge");
        if (!entry || entry.score === null) {
            badge?.remove();
            return;
        }
        if (!badge) {
            badge = document.createElement("span");
            badge.className = "imagereward-badge";
            item.style.position = "relative";
            item.append(badge);
        }
        const text = entry.score.toFixed(2);
        if (badge.textContent !== text) badge.textContent = text;
        badge.style.backgroundColor = colour(entry);
    }

    // What the host itself writes below the gallery of Extras is about the last image, whichever is shown.
    function markLast(wanted) {
        app().querySelector("#html_info_x_extras")?.classList.toggle("imagereward-last", wanted);
    }

    function draw(tab) {
        const items = thumbnails(tab);
        items.forEach((item, index) => drawBadge(item, state[tab]?.[index]));
        drawLine(tab, items);
        if (tab === "extras") markLast(items.length > 1 && (state[tab] ?? []).some((entry) => entry.score !== null));
    }

    function press(id) {
        app().querySelector(`#${id}`)?.click();
    }

    // What the panels say of the limit and of the loaded scorer is old after a generation.
    function refreshLines(tab) {
        PANELS.forEach((panel) => press(`imagereward-${tab}-${panel}-refresh`));
    }

    // The page is there before its buttons do anything, and nothing tells when they do.
    function fillLines(tab, tries = 20) {
        const empty = PANELS.some((panel) =>
            app().querySelector(`#imagereward-${tab}-${panel}-share`)?.textContent.trim() === "");
        if (!empty || !tries) return;
        refreshLines(tab);
        setTimeout(fillLines, 1000, tab, tries - 1);
    }

    function watch(tab) {
        const container = app().querySelector(`#${tab}_gallery_container`) ?? app().querySelector(`#${tab}_gallery`);
        if (!container) return;
        let known = "";
        let scheduled = false;
        const observer = new MutationObserver(() => {
            if (scheduled) return;
            scheduled = true;
            requestAnimationFrame(update);
        });
        const observe = () => observer.observe(container, {
            attributes: true, attributeFilter: ["class", "src"], childList: true, subtree: true,
        });

        function update() {
            scheduled = false;
            observer.disconnect(); // our own badges are no news
            try {
                const now = sources(tab);
                if (now !== known) {
                    known = now;
                    state[tab] = [];
                    if (now) press(`imagereward-${tab}-bridge`);
                    refreshLines(tab);
                }
                draw(tab);
            } finally {
                observe();
            }
        }

        observe();
    }

    window.imageRewardShow = function(tab, generationInfo) {
        try {
            state[tab] = generationInfo && wanted() ? read(generationInfo) : [];
        } catch (error) {
            state[tab] = []; // no generation info, or one that is not ours to read
        }
        draw(tab);
        return [];
    };

    function start() {
        TABS.forEach(watch);
        TABS.forEach((tab) => fillLines(tab));
    }

    if (typeof onUiLoaded === "function") {
        onUiLoaded(start);
    } else {
        window.addEventListener("load", start);
    }
})();
